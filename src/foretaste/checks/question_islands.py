"""Passages written to be retrieved for one question."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from foretaste.batch import Batch
from foretaste.check import Check, Context, RawExample, RawFinding, RawResult, Severity

if TYPE_CHECKING:
    from foretaste.text.tokens import Tokens

PREFIX_TOKENS = 5
QUESTION_TOKENS = 30
_INTERROGATIVES = (
    "what who whom whose which when where why how is are was were do does did can could should would "
    "will has have qué quién cuál cuándo dónde cómo quel quelle qui quand où comment pourquoi was wer "
    "wann wo warum wie welche che chi quale quando dove come perché que quem qual onde como кто что где "
    "когда почему как"
)
# After "when" or "where", these make a question; "when I saw" opens a story.
_AUXILIARIES = (
    "is are was were do does did can could should would will has have had many much long old often far may might"
)


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

    Reviews: islands with ``review_rows`` rows together, where at most ``max_asking`` of all documents open with a
    question.
    Never blocks: people ask the same question too.

    Misses: passages that do not repeat the question, one or two passages per question, paraphrased questions.

    Poisoned: five passages "who wrote the song X. Many believe that ...". Clean: a news corpus, a manual.

    The threat: Zou et al. 2024 (PoisonedRAG, arXiv 2402.07867).

    Args:
        review_rows: rows in islands from which the finding is made.
        max_asking: share of the other documents that open with a question up to which islands are odd.
        max_island: rows above which a group is a template, not an island.
    """

    id: ClassVar[str] = "question-islands"
    review_rows: int = 5
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
        asking = np.isin(hash_heads(tokens.hashes, tokens.offsets, 1), _heads(_INTERROGATIVES))
        asking &= np.diff(tokens.offsets) > 2 * PREFIX_TOKENS
        asking &= _second_word(tokens, _heads(_AUXILIARIES)) | _question_mark(tokens)
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
        if others > self.max_asking:
            return RawResult(metrics=metrics)
        names = [state.names[int(h)] for h in islands[:3]]
        finding = RawFinding(
            kind="question islands",
            severity=Severity.REVIEW,
            message=(
                f"{len(found)} documents in {len(islands)} groups open with one question each and go on differently; "
                f"{others:.1%} of the other documents open with a question"
            ),
            feature="; ".join(names),
            rows=found,
            observed=float(len(found)),
            limit=float(self.review_rows),
            statistic={"islands": float(len(islands)), "asking_elsewhere": round(others, 4)},
            examples=tuple(RawExample(row=int(r)) for r in found[np.argsort(heads[found], kind="stable")][:6]),
        )
        return RawResult(findings=(finding,), metrics=metrics)


def _heads(words: str) -> npt.NDArray[np.uint64]:
    """Head hashes of single words."""
    from foretaste.text.heads import hash_heads

    tokens = _tokens(words)
    return np.unique(hash_heads(tokens.hashes, np.arange(len(tokens.hashes) + 1, dtype=np.int64), 1))


def _tokens(text: str) -> Tokens:
    from foretaste.text.tokens import tokenize

    raw = text.encode()
    return tokenize(np.frombuffer(raw, np.uint8), np.array([0, len(raw)], np.int64))


def _second_word(tokens: Tokens, heads: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    from foretaste.text.heads import hash_heads

    shifted = np.minimum(tokens.offsets[:-1] + 1, tokens.offsets[1:])
    offsets = np.append(shifted, tokens.offsets[-1])
    return np.isin(hash_heads(tokens.hashes, offsets, 1), heads)


def _question_mark(tokens: Tokens) -> npt.NDArray[np.bool_]:
    """Whether a question mark stands among a row's first tokens."""
    marks = np.isin(tokens.hashes, _tokens("? ？").hashes)
    before = np.concatenate([[0], np.cumsum(marks)])
    ends = np.minimum(tokens.offsets[:-1] + QUESTION_TOKENS, tokens.offsets[1:])
    return np.asarray(before[ends] > before[tokens.offsets[:-1]])
