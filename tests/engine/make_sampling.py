#!/usr/bin/env python3
"""Writes sampling.txt: rows, options and the probabilities that docs/sampling.md gives them.

A model of that page in numpy, by sorting and adding whole vectors, written from the page and not from the C. Needs
numpy alone; run it as make_sampling.py > sampling.txt. Each case is

    case NAME
    row L ...                     float32 logits, %.9g
    set OPTION VALUE              any number of times
    bias ID VALUE                 any number of times
    history ID ... | breakers ID ... | eos ID ... | forbid ID ...
    at INDEX MU                   index of the token, mirostat's mu
    plain N (ID PROBABILITY MU)*  when XTC's coin says no (MU: what it is after that token)
    coin N (ID PROBABILITY MU)*   when it says yes; only there when it can
    drawn ID*32                   seed 11, the indices from INDEX on (mu stays)
    logprobs ID LOGPROB N (ID LOGPROB)*
    end
"""
import math
import sys

import numpy as np

F32 = np.float32
FLT_MAX = float(np.finfo(np.float32).max)
DEFAULTS = dict(temperature=0.8, top_k=40, top_p=0.9, min_p=0.0, typical_p=1.0, min_keep=0, repeat_penalty=1.0,
                presence_penalty=0.0, frequency_penalty=0.0, repeat_last_n=64, dry_multiplier=0.0, dry_base=1.75,
                dry_allowed_length=2, dry_penalty_last_n=-1, xtc_probability=0.0, xtc_threshold=0.1, mirostat=0,
                mirostat_tau=5.0, mirostat_eta=0.1, min_tokens=0)
INTEGERS = {"top_k", "min_keep", "repeat_last_n", "dry_allowed_length", "dry_penalty_last_n", "mirostat", "min_tokens"}
OPEN = dict(temperature=1.0, top_k=0, top_p=1.0)
M64 = (1 << 64) - 1


def f(x):
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 & M64
    x ^= x >> 27
    x = x * 0x94D049BB133111EB & M64
    return x ^ x >> 31


def number(key, index):
    return (f(key ^ (index * 0xD1342543DE82EF95 + 1 & M64)) >> 11) * 2.0 ** -53


def u_of(seed, index):
    return number(f(seed + 0x9E3779B97F4A7C15 & M64), index)


def coin_of(seed, index):
    return number(f(f(seed + 0xD6E8FEB86659FD93 & M64) + 0xA0761D6478BD642F & M64), index)


def last_of(history, n):
    return history if n < 0 else history[max(0, len(history) - n):]


def finite(x):
    return F32(min(max(x, -FLT_MAX), FLT_MAX))


def adjusted(case):
    o, V = case["options"], len(case["row"])
    l = np.array(case["row"], dtype=F32)
    l[case["forbid"]] = -np.inf
    if case["index"] < o["min_tokens"]:
        held = l.copy()
        held[[e for e in case["eos"] if 0 <= e < V]] = -np.inf
        if np.isfinite(held).any():
            l = held
    for i, b in case["bias"]:
        if np.isfinite(l[i]):
            l[i] = -np.inf if b == -math.inf else finite(float(l[i]) + b)
    window = last_of(case["history"], o["repeat_last_n"])
    for i in set(window):
        if 0 <= i < V and np.isfinite(l[i]):
            x = float(l[i])
            x = x / o["repeat_penalty"] if x > 0 else x * o["repeat_penalty"]
            l[i] = finite(x - window.count(i) * o["frequency_penalty"] - o["presence_penalty"])
    if o["dry_multiplier"] > 0:
        h = last_of(case["history"], o["dry_penalty_last_n"])
        longest = {}
        for j in range(len(h)):
            m = 0
            while m < j and h[j - 1 - m] == h[len(h) - 1 - m] and h[j - 1 - m] not in case["breakers"]:
                m += 1
            if h[j] not in case["breakers"] and m >= 1 and m >= o["dry_allowed_length"]:
                longest[h[j]] = max(longest.get(h[j], 0), m)
        for i, m in longest.items():
            if 0 <= i < V and np.isfinite(l[i]):
                with np.errstate(over="ignore"):
                    power = np.float64(o["dry_base"]) ** (m - o["dry_allowed_length"])
                l[i] = finite(float(l[i]) - o["dry_multiplier"] * power)
    return l.astype(np.float64)


def softmax(l):
    w = np.exp(l - l.max())
    return w / w.sum()


def kept(ids, l, order, p, share, least):
    """The first of `order` that hold share, and at least `least` of them."""
    total, n = 0.0, 0
    for i in order:
        total += p[i]
        n += 1
        if total >= share and n >= least:
            break
    return ids[np.sort(order[:n])]


def best_first(ids, l):
    return np.lexsort((ids, -l[ids]))


def cut(case, l, coin):
    o = case["options"]
    ids = np.flatnonzero(np.isfinite(l))
    least = max(1, o["min_keep"])
    if o["top_k"] > 0:
        ids = np.sort(ids[best_first(ids, l)[:o["top_k"]]])
    if o["typical_p"] < 1:
        p = softmax(l[ids])
        with np.errstate(divide="ignore", invalid="ignore"):
            lse = l[ids].max() + math.log(np.exp(l[ids] - l[ids].max()).sum())
        s = lse - l[ids]
        order = np.lexsort((ids, np.abs(s - (p * s).sum())))
        ids = kept(ids, l, order, p, o["typical_p"], least)
    if o["top_p"] < 1:
        ids = kept(ids, l, best_first(ids, l), softmax(l[ids]), o["top_p"], least)
    if o["min_p"] > 0:
        n = max(least, int((l[ids] >= l[ids].max() + math.log(o["min_p"])).sum()))
        ids = np.sort(ids[best_first(ids, l)[:n]])
    if coin:
        p, order = softmax(l[ids]), best_first(ids, l)
        top = [i for i in order if p[i] >= o["xtc_threshold"]]
        if len(top) >= 2 and len(ids) - (len(top) - 1) >= least:
            ids = np.sort(np.delete(ids, top[:-1]))
    return ids


def mirostat(case, l):
    o, V = case["options"], len(l)
    ids = np.flatnonzero(np.isfinite(l))
    p = softmax(l[ids] / o["temperature"])
    s = -np.log2(p)
    order = best_first(ids, l)
    if o["mirostat"] == 2:
        n = max(1, int((s <= case["mu"]).sum()))
    elif len(ids) == 1:
        n = 1
    else:
        q = np.log(p[order][:100])
        i = np.arange(1, len(q))
        t, b = np.log((i + 1) / i), q[:-1] - q[1:]
        z = (t * b).sum() / (t * t).sum()
        e = z - 1
        n = int(min(max(((e * 2 ** case["mu"]) / (1 - V ** -e)) ** (1 / z), 1), len(ids)))
    ids_kept = np.sort(order[:n])
    mu = case["mu"] - o["mirostat_eta"] * (s[ids_kept] - o["mirostat_tau"])
    return ids[ids_kept], mu


def distribution(case, coin):
    """ids, probabilities, the mu after each."""
    o = case["options"]
    l = adjusted(case)
    mu = case["mu"]
    if o["temperature"] == 0:
        return np.array([int(np.argmax(l))]), np.ones(1), np.array([mu])
    if o["mirostat"]:
        ids, mus = mirostat(case, l)
    else:
        ids = cut(case, l, coin)
        mus = np.full(len(ids), mu)
    return ids, softmax((l[ids] - l[ids].max()) / o["temperature"]), mus


def drawn(case, by_coin, seed, index):
    ids, p, _ = by_coin[coin_of(seed, index) < case["options"]["xtc_probability"]]
    return int(ids[min(np.searchsorted(np.cumsum(p), u_of(seed, index), side="right"), len(ids) - 1)])


def write(case, rng):
    row = np.array(case["row"], dtype=F32)
    out = [f"case {case['name']}", "row " + " ".join("%.9g" % x for x in row)]
    # options are float32 in C: the model computes with the same numbers
    for k, v in case["options"].items():
        if v != DEFAULTS[k]:
            out.append(f"set {k} {'%d' % v if k in INTEGERS else '%.9g' % v}")
        if k not in INTEGERS:
            case["options"][k] = float(F32(v))
    case["bias"] = [(i, float(F32(b))) for i, b in case["bias"]]
    out += [f"bias {i} {b:.9g}" for i, b in case["bias"]]
    for what in ("history", "breakers", "eos", "forbid"):
        if case[what]:
            out.append(what + " " + " ".join(str(i) for i in case[what]))
    out.append(f"at {case['index']} {case['mu']:.17g}")
    by_coin = {c: distribution(case, c) for c in (False, True)}
    for coin, name in ((False, "plain"), (True, "coin")):
        if coin and not case["options"]["xtc_probability"]:
            continue
        ids, p, mu = by_coin[coin]
        out.append(f"{name} {len(ids)} " + " ".join(f"{i} {x:.15g} {m:.15g}" for i, x, m in zip(ids, p, mu)))
    out.append("drawn " + " ".join(str(drawn(case, by_coin, 11, case["index"] + i)) for i in range(32)))
    l = row.astype(np.float64)
    lp = l - l.max() - math.log(np.exp(l - l.max()).sum())
    order = [i for i in np.lexsort((np.arange(len(l)), -l)) if np.isfinite(l[i])][:20]
    i = int(rng.integers(len(l)))
    out.append(f"logprobs {i} {lp[i]:.15g} {len(order)} " + " ".join(f"{j} {lp[j]:.15g}" for j in order))
    print("\n".join(out + ["end"]))


def make(name, row, bias=(), history=(), breakers=(), eos=(), forbid=(), index=0, mu=None, **options):
    o = dict(DEFAULTS, **dict(OPEN, **options))
    return dict(name=name, row=[float(F32(x)) for x in row], options=o, bias=list(bias), history=[int(i) for i in history],
                breakers=[int(i) for i in breakers], eos=[int(i) for i in eos], forbid=[int(i) for i in forbid], index=index,
                mu=2 * float(F32(o["mirostat_tau"])) if mu is None else mu)


def named(rng):
    r = lambda n, scale=2.0: rng.normal(0, scale, n)
    ties = [3, 1, 3, 2, 2, 3, 1, 1, 2, 0, 0, 3]
    yield make("temperature_1", r(40))
    yield make("temperature_low", r(40), temperature=0.2)
    yield make("temperature_high", r(40), temperature=50)
    yield make("temperature_tiny", r(40), temperature=1e-30)
    yield make("greedy", r(100), temperature=0, top_k=3, xtc_probability=1, mirostat=2)
    yield make("greedy_ties", ties, temperature=0)
    yield make("defaults", r(300), temperature=0.8, top_k=40, top_p=0.9)
    for k in (1, 2, 7, 63, 64, 65, 130, 199, 200, 100000):
        yield make(f"top_k_{k}", r(200), top_k=k)
    for k in (1, 2, 5, 11):
        yield make(f"top_k_{k}_ties", ties, top_k=k)
    for p in (0, 1e-6, 0.3, 0.75, 0.999):
        yield make(f"top_p_{p}", r(90), top_p=p)
        yield make(f"typical_p_{p}", r(90), typical_p=p)
        yield make(f"typical_p_{p}_flat", r(90, 0.05), typical_p=p)
    for p in (0.3, 0.55, 0.8):
        yield make(f"top_p_{p}_ties", ties, top_p=p)
        yield make(f"typical_p_{p}_ties", ties, typical_p=p)
        yield make(f"typical_p_{p}_equal", [1.5] * 13, typical_p=p)
    for p in (0.1, 0.2, 0.35, 0.5, 0.9):  # the nearest group is the better one, and the cut goes through it
        yield make(f"typical_p_{p}_group", [0, 2, 2, 0, 0, 2, 0, 0, 0, 2, 0, 2, -1, 0, -1], typical_p=p)
    for p in (1e-4, 0.05, 0.5, 1):
        yield make(f"min_p_{p}", r(90), min_p=p)
        yield make(f"min_p_{p}_ties", ties, min_p=p)
    for n in (1, 4, 50, 1000):
        yield make(f"min_keep_{n}_top_p", r(30), top_p=0.1, min_keep=n)
        yield make(f"min_keep_{n}_typical", r(30), typical_p=0.1, min_keep=n)
        yield make(f"min_keep_{n}_min_p", r(30), min_p=0.9, min_keep=n)
        yield make(f"min_keep_{n}_xtc", r(30, 0.5), xtc_probability=0.5, xtc_threshold=0.03, min_keep=n)
    for p in (0, 0.3, 1):
        yield make(f"xtc_{p}", r(12, 0.8), xtc_probability=p)
        yield make(f"xtc_{p}_ties", ties, xtc_probability=p, xtc_threshold=0.05)
    yield make("xtc_threshold_0", r(12), xtc_probability=1, xtc_threshold=0)
    yield make("xtc_threshold_above_half", [9, 1, 0], xtc_probability=1, xtc_threshold=0.6)
    yield make("xtc_after_top_k", r(12, 0.4), xtc_probability=0.7, xtc_threshold=0.12, top_k=6)
    h = rng.integers(0, 20, 50)
    for n in (0, 1, 10, 50, 51, 2147483647, -1):
        yield make(f"repeat_last_n_{n}", r(20), history=h, repeat_penalty=1.3, presence_penalty=0.2,
                   frequency_penalty=0.1, repeat_last_n=n)
    yield make("repeat_penalty_below_1", r(20), history=h, repeat_penalty=0.7)
    yield make("repeat_penalty_huge", r(20), history=h[:5], repeat_penalty=1e30)
    yield make("repeat_penalty_tiny", r(20), history=h[:5], repeat_penalty=1e-38)
    yield make("penalties_negative", r(20), history=h, presence_penalty=-1, frequency_penalty=-0.2)
    yield make("history_outside", r(20), history=[3, 3, -1, 20, 2147483647, -2147483648, 5], repeat_penalty=1.5,
               dry_multiplier=1, dry_allowed_length=1)
    yield make("bias", r(20), bias=[(0, 5), (3, -100), (3, 100), (7, -2.5), (19, 100)])
    yield make("bias_forbids", r(20), bias=[(i, -math.inf) for i in range(17)])
    yield make("bias_huge", r(20), bias=[(4, 3e38), (4, 3e38), (5, -3e38), (5, -3e38)])
    phrase = [4, 8, 1, 6, 2, 9, 3]
    told = phrase + [7] + phrase[:5]
    for a in (0, 1, 2, 4, 5, 6):
        yield make(f"dry_allowed_{a}", r(12), history=told, dry_multiplier=0.8, dry_allowed_length=a)
    for n in (-1, 0, 1, 8, 9, 1000):
        yield make(f"dry_last_n_{n}", r(12), history=told, dry_multiplier=0.8, dry_penalty_last_n=n)
    yield make("dry_breaker_in_match", r(12), history=told, dry_multiplier=0.8, breakers=[8])
    yield make("dry_breaker_last", r(12), history=told, dry_multiplier=0.8, breakers=[2])
    yield make("dry_breaker_next", r(12), history=told, dry_multiplier=0.8, breakers=[9])
    yield make("dry_run", r(12), history=[5] * 60, dry_multiplier=0.1, dry_base=1.1)
    yield make("dry_run_long", r(12), history=[5] * 1200, dry_multiplier=1, dry_base=2)
    yield make("dry_period", r(12), history=[1, 2, 1, 1, 2] * 20, dry_multiplier=0.1, dry_base=1.05)
    yield make("dry_base_1", r(12), history=told, dry_multiplier=2, dry_base=1)
    yield make("min_tokens_held", r(12), eos=[0, 5, 99, -1], min_tokens=4, index=3)
    yield make("min_tokens_over", r(12), eos=[0, 5], min_tokens=4, index=4)
    yield make("min_tokens_gives_way", r(12), eos=[3], min_tokens=4, forbid=[i for i in range(12) if i != 3])
    yield make("mask", r(200), forbid=[i for i in range(200) if i % 7 != 3], top_k=10)
    yield make("mask_edges", r(130), forbid=list(range(32, 127)), top_k=20)
    yield make("mask_one", r(130), forbid=[i for i in range(130) if i != 129])
    yield make("mask_of_the_best", sorted(r(100)), forbid=list(range(64, 100)), temperature=0)
    yield make("all_but_one_are_minus_inf", [-math.inf] * 70 + [-5.0] + [-math.inf] * 9, top_k=5, top_p=0.5)
    yield make("some_are_minus_inf", [x if i % 3 else -math.inf for i, x in enumerate(r(90))], typical_p=0.8)
    yield make("one_token", [0.25], top_k=3, top_p=0.2, typical_p=0.2, min_p=0.2, xtc_probability=1)
    yield make("far_apart", [1e38, 1e38, -1e38, 3e38, 3e38])
    for m in (1, 2):
        for tau in (0, 1, 3, 5, 9):
            yield make(f"mirostat_{m}_tau_{tau}", r(240, 1.5), mirostat=m, mirostat_tau=tau)
        for mu in (-3, 0, 0.5, 2, 4, 40):
            yield make(f"mirostat_{m}_mu_{mu}", r(150), mirostat=m, mu=mu, temperature=0.7, top_k=3)
        yield make(f"mirostat_{m}_eta_0", r(50), mirostat=m, mirostat_eta=0, mu=3.5)
        yield make(f"mirostat_{m}_after_penalties", r(50), mirostat=m, mu=3.5, history=h, repeat_penalty=1.4, bias=[(3, 4)])


def mixed(rng, i):
    V = int(rng.choice([5, 33, 64, 100, 150]))
    pick = lambda *values: values[int(rng.integers(len(values)))]
    row = rng.normal(0, pick(0.3, 1, 3), V)
    if i % 3 == 0:
        row = np.round(row * 2) / 2  # ties
    some = lambda n: rng.choice(V, size=min(n, V), replace=False)
    return make(f"mixed_{i}", row, history=rng.integers(0, pick(3, V), 40), bias=[(int(j), rng.normal(0, 2)) for j in some(3)],
                breakers=some(pick(0, 1)), eos=some(2), forbid=some(pick(0, V // 2)), index=int(rng.integers(6)),
                min_tokens=pick(0, 3), temperature=pick(0.3, 0.8, 1, 1.7), top_k=pick(0, 3, 20, 40, 70),
                top_p=pick(0.5, 0.9, 1), typical_p=pick(0.6, 1, 1), min_p=pick(0, 0, 0.05, 0.2), min_keep=pick(0, 0, 3),
                xtc_probability=pick(0, 0.5), xtc_threshold=pick(0.05, 0.1), repeat_penalty=pick(1, 1.2),
                presence_penalty=pick(0, 0.4), frequency_penalty=pick(0, 0.1), repeat_last_n=pick(-1, 0, 16, 64),
                dry_multiplier=pick(0, 0.5), dry_allowed_length=pick(1, 2), mirostat=pick(0, 0, 0, 0, 1, 2),
                mu=pick(1.0, 3.0, 8.0))


def main():
    rng = np.random.default_rng(20260101)
    sys.stdout.write("# made by make_sampling.py\n")
    for case in named(rng):
        write(case, rng)
    for i in range(120):
        write(mixed(rng, i), rng)


if __name__ == "__main__":
    main()
