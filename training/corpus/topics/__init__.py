"""One module a topic. Each offers make(rng, split) -> Conversation and keeps its own tables."""
