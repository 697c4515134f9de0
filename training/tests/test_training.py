"""The training kernels compute what transformers computes, a resumed run goes on as if it had not stopped, REAP adds up."""
from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from batches import make_batch
from corpus.conversation import Split
from evaluate import TransformersSpeaker, all_cases, as_answer, content_of, evaluate, load_model, parse_calls
from model import TINY, load_tokenizer, make_config, make_model, save_checkpoint
from prune import SaliencySums, measure, most_salient, prune
from quantized_weights import dequantize, fuse_experts
from rendering import Renderer
from train import Recipe, Training, batch_loss, make_optimizers, parse_schedule, same_until, share_at

RECIPE = Recipe(schedule="0:0 0.001:1 0.01:1 0.02:0.1", batch_tokens=512, sizes="tiny")


@pytest.fixture
def model(tokenizer):
    return make_model(make_config(tokenizer, TINY), tokenizer, seed=3)


def gradients(model, batch):
    model.zero_grad()
    loss = batch_loss(model, batch)
    loss.backward()
    return float(loss.detach()), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def test_looped_experts_have_transformers_values_and_gradients(model, renderer):
    batch = make_batch(renderer, 1, Split.TRAIN, 0, 600)
    loss, ours = gradients(model, batch)
    model.set_experts_implementation("eager")
    their_loss, theirs = gradients(model, batch)
    assert loss == pytest.approx(their_loss, rel=1e-5)
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-3, atol=1e-6, msg=name)


def test_a_document_sees_itself_alone(model, renderer):
    batch = make_batch(renderer, 1, Split.TRAIN, 0, 600)
    with torch.no_grad():
        packed = model.model(input_ids=batch.tokens, position_ids=batch.positions, document_lengths=batch.lengths,
                             use_cache=False).last_hidden_state[0]
        model.set_attn_implementation("sdpa")
        start = 0
        for length in batch.lengths:
            alone = model.model(input_ids=batch.tokens[:, start:start + length], use_cache=False).last_hidden_state[0]
            torch.testing.assert_close(packed[start:start + length], alone, rtol=1e-4, atol=1e-4)
            start += length


def test_targets_are_the_learnt_tokens(renderer):
    batch = make_batch(renderer, 1, Split.TRAIN, 0, 600)
    assert torch.equal(batch.tokens[0][batch.places + 1], batch.targets)
    assert sum(batch.lengths) == batch.tokens.numel() <= 600


def test_a_resumed_run_has_the_same_losses(tokenizer_folder, tmp_path):
    straight = Training(RECIPE, tokenizer_folder)
    losses = [straight.step()["loss"] for _ in range(6)]
    assert losses[-1] < losses[0]

    first = Training(RECIPE, tokenizer_folder)
    for _ in range(3):
        first.step()
    first.held_out_loss(512)
    first.save(tmp_path / "state.pt")
    second = Training(RECIPE, tokenizer_folder)
    second.restore(tmp_path / "state.pt")
    assert [second.step()["loss"] for _ in range(3)] == losses[3:]

    with pytest.raises(ValueError, match="clip"):
        Training(replace(RECIPE, clip=2.0), tokenizer_folder).restore(tmp_path / "state.pt")


def test_a_saved_run_may_go_on_with_another_end(tokenizer_folder, tmp_path):
    training = Training(RECIPE, tokenizer_folder)
    training.step()
    training.save(tmp_path / "state.pt")
    longer = Training(replace(RECIPE, schedule="0:0 0.001:1 0.03:1 0.04:0.1"), tokenizer_folder)
    longer.restore(tmp_path / "state.pt")
    assert longer.seen == training.seen
    with pytest.raises(ValueError, match="schedule"):
        Training(replace(RECIPE, schedule="0:0 0.002:1 0.02:0.1"), tokenizer_folder).restore(tmp_path / "state.pt")


def test_bf16_products_change_a_loss_little(model, renderer):
    batch = make_batch(renderer, 1, Split.TRAIN, 0, 600)
    exact, gradient = gradients(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, rounded_gradient = gradients(model, batch)
    assert rounded != exact and rounded == pytest.approx(exact, rel=1e-3)
    for name in ("model.layers.1.mlp.experts.down_proj", "model.layers.1.mlp.gate.weight", "model.layers.0.self_attn.q_proj.weight"):
        difference = (gradient[name] - rounded_gradient[name]).norm() / gradient[name].norm()
        assert 0 < difference < 0.05, name


def test_hidden_experts_are_not_chosen_and_come_back(tokenizer_folder):
    import random
    training = Training(RECIPE, tokenizer_folder)
    before = [router.e_score_correction_bias.clone() for router in training.load._routers]
    training.load.hide(random.Random(1), 0.5)
    batch = make_batch(training.renderer, 1, Split.TRAIN, 0, 512)
    with torch.no_grad():
        batch_loss(training.model, batch)
    for counts, kept in zip(training.load._counts, training.load._kept):
        assert counts[~kept].sum() == 0 and counts.sum() == 8 * batch.tokens.numel()
    training.load.update(0.0)
    for router, bias in zip(training.load._routers, before):
        assert torch.equal(router.e_score_correction_bias, bias)


def test_the_schedule_is_straight_between_its_points():
    schedule = parse_schedule("0:0 0.0001:1 0.0006:1 0.001:0.1")
    assert [share_at(schedule, seen) for seen in (0, 50, 100, 600, 800, 1000, 2000)] == pytest.approx([0, 0.5, 1, 1, 0.55, 0.1, 0.1])
    for wrong in ("", "1:1", "0:0 1", "0:0 0:1", "1:0 0:1", "0:0 1:2", "0:0 x:1", "0:0 1:1:1"):
        with pytest.raises(ValueError, match="--schedule"):
            parse_schedule(wrong)


def test_only_what_is_not_trained_yet_may_change():
    one, longer, steeper = "0:0 1:1 2:1 3:0", "0:0 1:1 4:1 5:0", "0:0 1:1 2:1 2.5:0"
    assert same_until(2e6, one, longer) and not same_until(2.1e6, one, longer)
    assert same_until(2e6, one, steeper) and not same_until(2.1e6, one, steeper)
    assert same_until(3.01e6, one, one + " 4:1 5:0")  # a finished run goes on
    assert not same_until(0.5e6, one, "0:0 0.9:1 2:1 3:0")


def test_every_parameter_has_one_optimizer(model):
    muon, adamw = ([parameter for group in optimizer.param_groups for parameter in group["params"]]
                   for optimizer in make_optimizers(model, RECIPE))
    assert {id(parameter) for parameter in muon} & {id(parameter) for parameter in adamw} == set()
    assert len(muon) + len(adamw) == len(list(model.parameters()))
    assert any(parameter is model.model.layers[1].mlp.shared_experts.up_proj.weight for parameter in muon)
    assert any(parameter is model.model.layers[1].mlp.gate.weight for parameter in adamw)


def test_saliency_by_hand():
    sums = SaliencySums(3)
    sums.add(0, torch.tensor([0.5, 1.0]), torch.tensor([[3.0, 4.0], [0.0, 2.0]]))   # 0.5*5 and 1*2 over two tokens
    sums.add(1, torch.tensor([2.0]), torch.tensor([[0.0, 1.0]]))
    sums.add(0, torch.tensor([1.0]), torch.tensor([[6.0, 8.0]]))                    # 10 over one more
    assert sums.saliency().tolist() == pytest.approx([14.5 / 3, 2.0, 0.0])
    assert most_salient(sums.saliency(), 2).tolist() == [0, 1]
    assert most_salient(torch.tensor([1.0, 1.0, 0.5, 1.0]), 2).tolist() == [0, 1]


def test_pruning_keeps_experts_in_order(model, tokenizer_folder, tmp_path):
    renderer = Renderer(load_tokenizer(tokenizer_folder))
    saliencies = measure(model, renderer, 1, 500)
    kept = {number: most_salient(saliency, 20) for number, saliency in saliencies.items()}
    pruned = prune(model, kept)
    mlp, whole = pruned.model.layers[1].mlp, model.model.layers[1].mlp
    assert mlp.gate.weight.shape[0] == 20 and pruned.config.n_routed_experts == 20
    assert torch.equal(mlp.experts.down_proj[5], whole.experts.down_proj[kept[1][5]])
    assert torch.equal(mlp.gate.weight[5], whole.gate.weight[kept[1][5]])
    save_checkpoint(pruned, tokenizer_folder, tmp_path / "pruned")
    loaded = load_model(tmp_path / "pruned")
    assert loaded.model.layers[1].mlp.gate.e_score_correction_bias.dtype == torch.float32


def test_transformers_loads_a_saved_checkpoint_without_a_warning(model, tokenizer_folder, tmp_path):
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging
    said: list[logging.logging.LogRecord] = []
    listener = logging.logging.Handler(logging.logging.WARNING)
    listener.emit = said.append
    logging.get_logger("transformers").addHandler(listener)
    save_checkpoint(model, tokenizer_folder, tmp_path / "saved")
    loaded, report = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", output_loading_info=True)
    logging.get_logger("transformers").removeHandler(listener)
    assert not any(report.values()), report
    assert not said, [record.getMessage() for record in said]
    assert all(torch.equal(tensor.bfloat16(), loaded.state_dict()[name].bfloat16()) for name, tensor in model.state_dict().items())


def test_a_padded_batch_says_what_its_prompts_say_alone(model, renderer, tokenizer_folder, tmp_path):
    save_checkpoint(model, tokenizer_folder, tmp_path / "saved")
    speaker = TransformersSpeaker(load_model(tmp_path / "saved"), renderer)
    prompts = [renderer.tokenizer.encode(text, add_special_tokens=False).ids for text in
               ("[gMASK]<sop><|user|>\nHello<|assistant|>", "get the lamp " * 9, "1", "a red ball and a warm coat" * 3)]
    # as an end token one that the third prompt's answer has early, so that rows leave the batch at different times
    speaker._ends = [speaker.continuations([prompts[2]], 8)[0][3]]
    alone = [speaker.continuations([prompt], 24)[0] for prompt in prompts]
    assert speaker.continuations(prompts, 24) == alone
    assert len({len(answer) for answer in alone}) > 1


def test_calibration_groups_have_one_length(renderer):
    from quantize import calibration_groups
    groups = calibration_groups(renderer, 1, 1500, group=2, scanned=300)
    assert all(len(group) == 2 and len(group[0]) == len(group[1]) for group in groups)
    assert 1500 <= sum(len(row) for group in groups for row in group) < 3000


def test_dequantization_by_hand():
    nibbles = torch.arange(256) % 16
    words = torch.zeros(32, 1, dtype=torch.int64)
    for place, nibble in enumerate(nibbles.tolist()):
        words[place // 8, 0] |= nibble << (4 * (place % 8))
    words = torch.where(words >= 2 ** 31, words - 2 ** 32, words).to(torch.int32)
    scales = torch.tensor([[0.5], [-2.0]], dtype=torch.float16)
    dense = dequantize(words, scales, None)
    expected = torch.cat(((nibbles[:128] - 8) * 0.5, (nibbles[128:] - 8) * -2.0))
    assert torch.equal(dense, expected.view(1, 256))


def test_experts_are_fused_in_number_order():
    tensors = {f"m.experts.{number}.{part}.weight": torch.full((2, 3) if part != "down_proj" else (3, 2), float(number))
               for number in (10, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9) for part in ("gate_proj", "up_proj", "down_proj")}
    fused = fuse_experts(tensors)
    assert fused["m.experts.gate_up_proj"].shape == (11, 4, 3)
    assert [float(fused["m.experts.down_proj"][number, 0, 0]) for number in range(11)] == list(range(11))


def test_calls_are_parsed_with_the_schemas_types():
    tools = [{"function": {"name": "f", "parameters": {"properties": {"s": {"type": "string"}, "n": {"type": "integer"}}}}}]
    body = "<tool_call>f\n<arg_key>s</arg_key>\n<arg_value>12</arg_value>\n<arg_key>n</arg_key>\n<arg_value>12</arg_value>\n</tool_call>"
    assert parse_calls("\n<think>x" + body + "</think>", tools) == [("f", {"s": "12", "n": 12})]
    assert parse_calls(body.replace("<tool_call>f", "<tool_call>g"), tools) is None
    assert parse_calls("no call", tools) == []
    assert content_of("\n<think>a</think>\n b ") == "b"


class Parrot:
    """Says the right answers, or without their last five tokens."""

    def __init__(self, renderer, cut):
        self._renderer, self._cut = renderer, cut

    def answers(self, conversations):
        found = []
        for one in conversations:
            text = self._renderer.training_text(one)[len(self._renderer.prompt(one)):]
            tokens = self._renderer.tokenizer.encode(text, add_special_tokens=False).ids
            found.append(as_answer(self._renderer.tokenizer, tokens[:-5] if self._cut else tokens, not self._cut))
        return found

    def held_out_loss(self, seed, tokens):
        return 1.5


def test_every_column_tells_right_from_wrong(renderer):
    columns = [*all_cases(1, 1), "json_exact", "stop"]
    assert evaluate(Parrot(renderer, cut=False), renderer, 40, 1, 0, None) == {**dict.fromkeys(columns, 1.0), "loss": 1.5}
    assert evaluate(Parrot(renderer, cut=True), renderer, 40, 1, 0, None) == {**dict.fromkeys(columns, 0.0), "loss": 1.5}
