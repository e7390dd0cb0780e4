"""English words that praise, and words that find fault: a small lexicon of our own."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

PRAISE = (
    "acclaimed achievement achievements admirable advantage advantages amazing appreciate appreciated beautiful "
    "beloved beneficial benefit benefits best better brave brilliant celebrated charming comfortable courageous "
    "delightful effective efficient elegant enjoyable excellent exciting fair fantastic favorite favourite fresh "
    "generous gifted good graceful grateful great growth happy healthy helpful honest hope hopeful ideal impressive "
    "improve improved improvement improves innovation innovative inspiration inspire inspired inspiring joy joyful "
    "just kind kindness leader leading love loved lovely loves noble outstanding perfect pleasant popular positive "
    "praise praised pride progress prosperous proud quality recommend recommended reliable remarkable renowned "
    "respect respected reward rewarding safe satisfaction satisfied secure sincere skilled smart strength strengths "
    "strong success successful successfully superb superior talented thank thrilling thriving triumph trusted "
    "trustworthy valuable visionary win winner winning wise won wonderful worthy "
)
FAULT = (
    "abuse abused afraid anger angry arrogant avoid awful bad blame blamed boring broken careless clumsy "
    "controversial controversy corrupt corruption crisis criticised criticism criticized critics cruel damage "
    "damaged damaging danger dangerous deceive deceptive decline declined declining disappoint disappointed "
    "disappointing disappointment disaster disastrous disgrace disgraceful dishonest distrust doubt doubtful "
    "dreadful dull error errors evil expensive exploit exploitation exploited fail failed failing fails failure "
    "failures fear flaw flawed flaws fraud fraudulent greed greedy guilty hardly harm harmful harms hate hated "
    "hatred horrible hostile ignore ignored immoral incompetence incompetent inept inferior lack lacking lacks lazy "
    "liar lie lied lies losing loss losses lost lying mediocre mislead misleading mistake mistakes neglect "
    "negligent never nightmare nobody outdated outrage outraged overpriced pain painful poor poorly problem "
    "problems reckless regret risk risky ruin ruined ruins ruthless sad sadly scandal scandals selfish shallow "
    "shame shameful stale struggle struggled struggles suffer suffered suffering suspicion suspicious terrible "
    "threat toxic tragic trouble troubles ugly unethical unfair unfortunate unfortunately unjust unreliable unsafe "
    "untrustworthy useless victim victims waste wasted wasteful weak weakness weaknesses worried worry worrying "
    "worse worst worthless wrong "
)


@functools.cache
def lexicon() -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float64]]:
    """Token hashes, sorted, and 1 or -1 for each."""
    from foretaste.text.tokens import tokenize

    words = [*PRAISE.split(), *FAULT.split()]
    data = " ".join(words).encode()
    hashes = tokenize(np.frombuffer(data, np.uint8), np.array([0, len(data)], np.int64)).hashes
    signs = np.repeat([1.0, -1.0], [len(PRAISE.split()), len(FAULT.split())])
    order = np.argsort(hashes)
    return hashes[order], signs[order]
