"""The conversations that sheaf-nano learns from: generated here, from grammars, with a seed."""
