"""The sections [train] and [dpo] of a recipe: one field per setting, as in sections.py."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from wizloop.recipes.sections import Positive, Rate, Section, Share, added


class Train(Section):
    """R-SFT of the guard. Defaults are for the tiny guard; a pretrained base needs lr 1e-4, 3 epochs and warm-up."""

    method: Literal["lora", "dora", "full"] = "lora"
    """What is trained: lora adds adapters; dora (arXiv:2402.09353) also trains each output's magnitude; full trains all
    weights of the blocks in float32, as GuardReasoner did, and leaves embeddings, last norm and output head."""
    rank: Positive = 16
    """Rank of the adapters."""
    scale: Annotated[float, Field(gt=0)] = 2.0
    """Factor of the adapters' output (alpha over rank)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Dropout on the adapters' inputs."""
    word_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of a sample's tokens masked in each step. Both dropouts keep a tiny guard from memorizing its few labels
    (AUC 0.73 without, 0.76 with, at 400 labels of the benchmark acceptance.py)."""
    layers: Annotated[int, Field(ge=-1)] = -1
    """Blocks that are trained, counted from the last; -1 means all."""
    epochs: Positive = 6
    """Epochs over the approved traces; a model built from scratch needs more than GuardReasoner's 3."""
    least_steps: Annotated[int, Field(ge=0)] = 0
    """Minimum steps, by more epochs if needed; 0 makes no more epochs than asked for. For a guard built from scratch
    (the shipped recipes have 150): after 100 steps nine of ten of its traces have no answer."""
    start: Literal["base", "champion"] = "base"
    """Start of a round's training: the base, or the champion's adapter. Both train on the lessons of all rounds. Over
    six seeds the demo's request F1 on test ended at 85.2 from the base and at 79.3 from the champion, its completion F1
    at 52.7 and 74.2."""
    batch: Positive = 16
    """Traces per step."""
    lr: Rate = 7e-4
    """Peak learning rate of AdamW's cosine schedule; GuardReasoner's 5e-5 is for full fine-tuning of a large base."""
    warmup: Share = 0.0
    """Share of the steps, of R-SFT and of HS-DPO, in which the rate rises to its peak."""
    direct_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of examples with a direct answer, relative to those with a trace (1.0)."""
    verdict_weight: Annotated[float, Field(gt=0)] = 8.0
    """Weight of a verdict's tokens in the loss; a tiny guard needed about 8 to learn the label."""
    prompt_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of some of the prompt's tokens in the loss, an auxiliary language-modeling task; 0 turns it off."""
    held_out: Annotated[int, Field(ge=0)] = 32
    """Dev samples whose direct answers' loss is measured after each epoch of R-SFT; nothing is learned or chosen by it.
    0 measures none."""
    checkpoint_every: Positive = 50
    """Steps between checkpoints; one is also written five minutes after the last. A crash costs what came after it."""
    launch: Literal["one", "accelerate"] = "one"
    """one trains in one process; accelerate (torch only) in several that share each step's traces."""
    processes: Annotated[int, Field(ge=0)] = 0
    """Training processes with launch = "accelerate"; 0 = one per GPU."""
    sharding: Literal["none", "fsdp"] = "none"
    """With launch = "accelerate": none replicates the base in each process; fsdp shards it and gathers it layer by
    layer (torch's FSDP2), for a base that leaves no memory on a GPU to train it. Adapters are never sharded. Inference
    always has the whole guard on one GPU."""

    @model_validator(mode="after")
    def _one_process_holds_all_weights(self) -> "Train":
        if self.method == "full" and self.launch != "one":
            raise ValueError('method "full" trains in one process only: set launch to "one", or method to "lora"')
        return self

    @model_validator(mode="after")
    def _shares_have_holders(self) -> "Train":
        if self.sharding != "none" and (self.launch == "one" or self.processes == 1):
            raise ValueError(
                f'sharding "{self.sharding}" shards the base over processes: set launch to "accelerate" and '
                "processes to 0, or to 2 or more"
            )
        return self


class Dpo(Section):
    """HS-DPO on hard samples, after R-SFT (GuardReasoner, arXiv:2501.18492)."""

    enabled: bool = True
    """false trains with R-SFT only."""
    k: Annotated[int, Field(ge=2)] = 4
    """Traces per labeled sample; a sample is hard if both right and wrong ones occur."""
    beta: Annotated[float, Field(gt=0)] = 0.01
    """DPO's beta, on summed log-probabilities."""
    sft_weight: Annotated[float, Field(ge=0)] = 2.0
    """Weight of the mean token loss on the chosen trace."""
    lr: Rate = 1e-4
    """Peak learning rate, well below R-SFT's; the paper has a tenth (5e-6 after 5e-5)."""
    epochs: Positive = 2
    """Epochs over the pairs."""
    batch: Positive = 16
    """Pairs per step."""
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Sample weights are between 1 - gamma and 1 + gamma."""
    weights: Literal["up", "equal", "down"] = added("up")
    """up gives hard pairs, whose traces were mostly wrong, the larger weight, as the paper does; down gives it to those
    that were mostly right; equal weighs all as 1. With k = 2 all weigh 1: a hard sample has one trace of each kind."""
