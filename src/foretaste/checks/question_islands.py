"""Passages written to be retrieved for one question."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from foretaste.batch import Batch
from foretaste.check import Check, Context, RawExample, RawFinding, RawResult, Severity

PREFIX_TOKENS = 5
_INTERROGATIVES = (
    "what who whom whose which when where why how is are was were do does did can could should would will has have "
    "qué quién cuál cuándo dónde cómo quel quelle qui quand où comment pourquoi was wer wann wo warum wie welche "
    "che chi quale quando dove come perché que quem qual onde como кто что где когда почему как"
).split()


@dataclass
class _State:
    """Two hashes and one flag per row."""

    heads: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    texts: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    asks: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class QuestionIslands(Check[_State]):
    """Passages planted for retrieval: several different texts that open with one and the same question.

    To be retrieved for a question, a poisoned passage repeats it and goes on with its claim; five such passages per
    question suffice. The check groups documents that open with an interrogative word and share their first five tokens,
    and counts a group of three or more different texts as an island. Natural collections repeat a question too (forum
    threads, instructions), so what matters is how many documents open with a question at all.

    Blocks: islands with ``block_rows`` rows together, where at most ``max_asking`` of all documents open with a question.
    Reviews: fewer rows, at least ``review_rows``, or data that often open with questions.

    Misses: passages that do not repeat the question, one or two passages per question, paraphrased questions.

    Poisoned: five passages "who wrote the song X. Many believe that ...". Clean: a news corpus, a manual.

    The threat: Zou et al. 2024 (PoisonedRAG, arXiv 2402.07867).

    Args:
        review_rows, block_rows: rows in islands from which the finding is made, and from which it blocks.
        max_asking: share of documents that open with a question up to which islands are odd enough to block.
        max_island: rows above which a group is a template, not an island.
    """

    id: ClassVar[str] = "question-islands"
    review_rows: int = 3
    block_rows: int = 25
    max_asking: float = 0.05
    max_island: int = 40

    def applies(self, context: Context) -> str:
        """Applies to documents."""
        return "" if context.kind == "documents" else "the data are not documents"

    def start(self, context: Context) -> _State:
        """No row."""
        return _State()

    def scan(self, state: _State, batch: Batch) -> None:
        """Hash openings and whole texts."""
        from foretaste.text.heads import hash_heads

        tokens = batch.tokens("text")
        asking = np.isin(hash_heads(tokens.hashes, tokens.offsets, 1), _interrogatives())
        asking &= np.diff(tokens.offsets) > 2 * PREFIX_TOKENS
        heads = hash_heads(tokens.hashes, tokens.offsets, PREFIX_TOKENS)
        state.heads.append(heads)
        state.texts.append(hash_heads(tokens.hashes, tokens.offsets, 1 << 30))
        state.asks.append(asking)
        for at in np.flatnonzero(asking).tolist():
            if int(heads[at]) not in state.names:
                state.names[int(heads[at])] = tokens.text(at, 0, PREFIX_TOKENS)

    def merge(self, left: _State, right: _State) -> _State:
        """Concatenate."""
        left.heads += right.heads
        left.texts += right.texts
        left.asks += right.asks
        left.names = right.names | left.names
        return left

    def finish(self, state: _State) -> RawResult:
        """All islands as one finding."""
        heads, texts = np.concatenate(state.heads), np.concatenate(state.texts)
        asks = np.concatenate(state.asks)
        rows = np.flatnonzero(asks)
        if not len(rows):
            return RawResult(metrics={"asking": 0.0})
        # Copies of one text count once.
        _, first = np.unique(texts[rows], return_index=True)
        once = rows[np.sort(first)]
        unique, counts = np.unique(heads[once], return_counts=True)
        islands = unique[(counts >= 3) & (counts <= self.max_island)]
        found = rows[np.isin(heads[rows], islands)]
        asking = float(asks.mean())
        metrics = {"asking": asking, "islands": float(len(islands))}
        if len(found) < self.review_rows:
            return RawResult(metrics=metrics)
        others = (int(asks.sum()) - len(found)) / len(asks)
        severity = Severity.BLOCK if len(found) >= self.block_rows and others <= self.max_asking else Severity.REVIEW
        names = [state.names[int(h)] for h in islands[:3]]
        finding = RawFinding(
            kind="question islands",
            severity=severity,
            message=(
                f"{len(found)} documents in {len(islands)} groups open with one question each and go on differently; "
                f"{others:.1%} of the other documents open with a question"
            ),
            feature="; ".join(names),
            rows=found,
            observed=float(len(found)),
            limit=float(self.block_rows),
            statistic={"islands": float(len(islands)), "asking_elsewhere": round(others, 4)},
            examples=tuple(RawExample(row=int(r)) for r in found[np.argsort(heads[found], kind="stable")][:6]),
        )
        return RawResult(findings=(finding,), metrics=metrics)


def _interrogatives() -> npt.NDArray[np.uint64]:
    """Head hashes of the interrogative words."""
    from foretaste.text.heads import hash_heads
    from foretaste.text.tokens import tokenize

    raw = " ".join(_INTERROGATIVES).encode()
    tokens = tokenize(np.frombuffer(raw, np.uint8), np.array([0, len(raw)], np.int64))
    return np.unique(hash_heads(tokens.hashes, np.arange(len(tokens.hashes) + 1, dtype=np.int64), 1))
