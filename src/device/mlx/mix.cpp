// Operations that see other tokens: rotation by position, attention over cached keys and values, convolutions and delta
// rules with their states.
#include "device/mlx/shim.hpp"

#include <cmath>

namespace mlxr_mlx
{
namespace
{
// Positions by which caches grow, as mlx-lm's KVCache does.
constexpr size_t cache_step = 256;

mx::array concatenated(std::vector<mx::array> parts, int axis, const mx::Stream &s)
{
    return parts.size() == 1 ? parts[0] : mx::concatenate(std::move(parts), axis, s);
}

mx::array range(const mx::array &a, int axis, size_t begin, size_t end, const mx::Stream &s)
{
    mx::Shape from(a.ndim(), 0), to = a.shape();
    if (begin == 0 && end == (size_t)to[axis]) return a;
    from[axis] = as_int(begin);
    to[axis] = as_int(end);
    return mx::slice(a, std::move(from), std::move(to), mx::Shape(a.ndim(), 1), s);
}
} // namespace

// ---- rotation ----

mx::array Step::offsets(Group &g)
{
    if (!g.offsets) {
        std::vector<int32_t> at;
        for (const Run *r : g.runs) at.push_back(as_int(r->position));
        g.offsets = at.size() == 1 ? mx::array(at[0]) : mx::array(at.begin(), {as_int(at.size())}, mx::int32);
    }
    return *g.offsets;
}

// Positions from dynamic_context on have frequencies of their own: each position's angles are made here.
mx::array Step::rope_dynamic(const mlxr_op &op, Group &g, const mx::array &x)
{
    size_t n_rot = op.u.rope.n_rot, half = n_rot / 2;
    auto found = g.turns.find(op.u.rope.inv_freq);
    if (found == g.turns.end()) {
        std::vector<float> angles, inverse(half);
        for (const Run *r : g.runs)
            for (size_t i = 0; i < r->n; i++) {
                if (r->position + i < op.u.rope.dynamic_context) {
                    for (size_t j = 0; j < half; j++)
                        angles.push_back((float)(r->position + i) * op.u.rope.inv_freq[j]);
                    continue;
                }
                host->rope_frequencies_at(inverse.data(), n_rot, op.u.rope.dynamic_theta,
                                          op.u.rope.dynamic_factor, op.u.rope.dynamic_context,
                                          r->position + i);
                for (float f : inverse) angles.push_back((float)(r->position + i) * f);
            }
        mx::array a = mx::reshape(from_floats(angles.data(), angles.size()),
                                  {as_int(g.runs.size()), 1, as_int(g.n), as_int(half)}, s);
        found = g.turns
                    .emplace(op.u.rope.inv_freq, std::pair(mx::astype(mx::cos(a, s), type, s),
                                                           mx::astype(mx::sin(a, s), type, s)))
                    .first;
    }
    const mx::array &c = found->second.first, &d = found->second.second;
    bool neighbours = op.u.rope.pairing == MLXR_ROPE_INTERLEAVED;
    mx::array turned = range(x, 3, 0, n_rot, s);
    mx::Shape all = turned.shape(), pairs{all[0], all[1], all[2], as_int(half), 2};
    int axis = neighbours ? 4 : 3;
    if (neighbours)
        turned = mx::reshape(turned, pairs, s);
    else
        turned = mx::reshape(turned, {all[0], all[1], all[2], 2, as_int(half)}, s);
    auto part = [&](size_t i) { return mx::squeeze(range(turned, axis, i, i + 1, s), axis, s); };
    mx::array u = part(0), v = part(1);
    mx::array out = mx::reshape(mx::stack({mx::subtract(mx::multiply(u, c, s), mx::multiply(v, d, s), s),
                                           mx::add(mx::multiply(u, d, s), mx::multiply(v, c, s), s)},
                                          axis, s),
                                all, s);
    if (n_rot == op.u.rope.head_dim) return out;
    return mx::concatenate({out, range(x, 3, n_rot, op.u.rope.head_dim, s)}, 3, s);
}

void Step::rope(const mlxr_op &op, const Prepared &prep)
{
    std::vector<mx::array> in = heads(op.a, op.u.rope.n_heads), out;

    for (size_t i = 0; i < groups.size(); i++) {
        mx::array x = in[i];
        size_t end = 0;
        for (const Run *r : groups[i].runs) end = r->position + r->n > end ? r->position + r->n : end;
        if (prep.factors) x = mx::multiply(x, *prep.factors, s);
        if (op.u.rope.dynamic_context && end > op.u.rope.dynamic_context) {
            out.push_back(rope_dynamic(op, groups[i], x));
            continue;
        }
        out.push_back(mx::fast::rope(x, (int)op.u.rope.n_rot, op.u.rope.pairing == MLXR_ROPE_INTERLEAVED,
                                     std::nullopt, 1, offsets(groups[i]), prep.periods, s));
    }
    set_heads(op.dst, std::move(out));
}

// ---- attention ----

// k, v [1, Hkv, n, D] into the run's places of the cache.
void Step::append(const mlxr_op &op, Run &r, const mx::array &k, const mx::array &v)
{
    Cache &c = r.sequence->caches[op.u.attend.slot];
    size_t end = r.position + r.n, capacity = c.keys ? (size_t)c.keys->shape(2) : 0;
    mx::array arrays[] = {k, v};
    std::optional<mx::array> *places[] = {&c.keys, &c.values};

    undo_log.push_back({&c, c});
    for (int i = 0; i < 2; i++) {
        std::optional<mx::array> &place = *places[i];
        int H = arrays[i].shape(1), D = arrays[i].shape(3);
        if (end > capacity) {
            size_t more = (end - capacity + cache_step - 1) / cache_step * cache_step;
            e.dev().reserve(more * (size_t)H * (size_t)D * mx::size_of(type), "keys and values");
            mx::array grown = mx::zeros({1, H, as_int(more), D}, type, s);
            place = place ? mx::concatenate({*place, grown}, 2, s) : grown;
        }
        place = mx::slice_update(*place, arrays[i], mx::Shape{0, 0, as_int(r.position), 0},
                                 mx::Shape{1, H, as_int(end), D}, s);
    }
}

// Which keys from `begin` on a run's queries see: [n, keys].
const mx::array &Step::mask(Group &g, const Run &r, size_t window, size_t begin)
{
    auto found = g.masks.find(window);
    if (found != g.masks.end()) return found->second;
    int first = as_int(r.position), end = as_int(r.position + r.n);
    mx::array q = mx::expand_dims(mx::arange(first, end, s), 1, s);
    mx::array k = mx::expand_dims(mx::arange(as_int(begin), end, s), 0, s);
    mx::array m = mx::greater_equal(q, k, s);
    if (window) m = mx::logical_and(m, mx::less(q, mx::add(k, mx::array(as_int(window)), s), s), s);
    return g.masks.emplace(window, m).first->second;
}

// Attention whose scores are capped, which MLX has no kernel for. As mlx-lm's gemma2.
static mx::array look_capped(mx::array q, mx::array k, mx::array v, const mx::array *mask,
                             const mx::array *sinks, float scale, float cap, const mx::Stream &s)
{
    int Hq = q.shape(1), Hkv = k.shape(1), n = q.shape(2), repeats = Hq / Hkv;
    mx::array limit(cap, q.dtype());
    q = mx::reshape(mx::multiply(q, mx::array(scale, q.dtype()), s), {1, Hkv, repeats, n, q.shape(3)}, s);
    k = mx::expand_dims(k, 2, s);
    v = mx::expand_dims(v, 2, s);
    mx::array scores = mx::matmul(q, mx::swapaxes(k, -1, -2, s), s);
    scores = mx::multiply(mx::tanh(mx::divide(scores, limit, s), s), limit, s);
    if (mask) scores = mx::where(*mask, scores, mx::array(mx::finfo(scores.dtype()).min, scores.dtype()), s);
    if (sinks) {
        mx::Shape one = scores.shape();
        one.back() = 1;
        mx::array extra = mx::broadcast_to(mx::reshape(*sinks, {1, Hkv, repeats, 1, 1}, s), one, s);
        scores = mx::concatenate({extra, scores}, -1, s);
    }
    scores = mx::softmax(scores, std::vector<int>{-1}, true, s);
    if (sinks) scores = range(scores, 4, 1, (size_t)scores.shape(4), s);
    return mx::reshape(mx::matmul(scores, v, s), {1, Hq, n, v.shape(4)}, s);
}

// q [1, Hq, n, Dk] of one run over what the cache has for it: [1, Hq, n, Dv].
mx::array Step::look(const mlxr_op &op, Group &g, size_t i_run, mx::array q, const Cache &c)
{
    const Run &r = *g.runs[i_run];
    size_t window = p->slots[op.u.attend.slot].window, end = r.position + r.n;
    size_t begin = window && r.position + 1 > window ? r.position + 1 - window : 0;
    bool masked = r.n > 1 && (window ? end > window : false);
    std::optional<mx::array> sinks;

    if (!c.keys || (size_t)c.keys->shape(2) < end)
        throw Failure(MLXR_E_INVALID_ARGUMENT, "ATTEND looks at keys that nothing appended");
    mx::array k = range(*c.keys, 2, begin, end, s), v = range(*c.values, 2, begin, end, s);
    if (begin > 0 && e.dev().gpu()) {
        // MLX's CUDA decoding finds a slice's cache by its strides and takes it to begin where the cache does.
        k = mx::contiguous(k, false, s);
        v = mx::contiguous(v, false, s);
    }
    if (op.weight != MLXR_NONE) sinks = *e.weights[op.weight].data;
    if (op.u.attend.softcap != 0) {
        const mx::array *m = r.n > 1 ? &mask(g, r, window, begin) : nullptr;
        return look_capped(q, k, v, m, sinks ? &*sinks : nullptr, op.u.attend.scale, op.u.attend.softcap, s);
    }
    std::optional<mx::array> m;
    if (masked) m = mask(g, r, window, begin);
    return mx::fast::scaled_dot_product_attention(q, k, v, op.u.attend.scale,
                                                  masked    ? "array"
                                                  : r.n > 1 ? "causal"
                                                            : "",
                                                  m, sinks, false, s);
}

// 1 + beta * ln(1 + floor(position / span)) for each token of a group, [runs, 1, n, 1].
static mx::array position_factors(const mlxr_op &op, const Group &g, mx::Dtype type, const mx::Stream &s)
{
    std::vector<float> f;
    for (const Run *r : g.runs)
        for (size_t i = 0; i < r->n; i++) {
            double spans = std::floor((double)(r->position + i) / (double)op.u.attend.position_span);
            f.push_back((float)(1 + (double)op.u.attend.position_beta * std::log(1 + spans)));
        }
    return mx::astype(
        mx::reshape(from_floats(f.data(), f.size()), {as_int(g.runs.size()), 1, as_int(g.n), 1}, s), type, s);
}

void Step::attend(const mlxr_op &op, const Prepared &)
{
    const mlxr_slot &slot = p->slots[op.u.attend.slot];
    std::vector<mx::array> q = heads(op.a, op.u.attend.n_heads), k, v, out;

    if (op.b != MLXR_NONE) {
        k = heads(op.b, slot.n_kv_heads);
        v = heads(op.c, slot.n_kv_heads);
    }
    for (size_t i = 0; i < groups.size(); i++) {
        Group &g = groups[i];
        std::vector<mx::array> parts;
        mx::array queries = q[i];
        if (op.u.attend.position_span) queries = mx::multiply(queries, position_factors(op, g, type, s), s);
        for (size_t j = 0; j < g.runs.size(); j++) {
            Run &r = *g.runs[j];
            if (!k.empty()) append(op, r, range(k[i], 0, j, j + 1, s), range(v[i], 0, j, j + 1, s));
            parts.push_back(
                look(op, g, j, range(queries, 0, j, j + 1, s), r.sequence->caches[op.u.attend.slot]));
        }
        out.push_back(concatenated(std::move(parts), 0, s));
    }
    set_heads(op.dst, std::move(out));
}

// ---- states ----

// The runs' states of a slot, [runs, ...]; zeros for those that begin.
static mx::array states_of(const Group &g, mlxr_slot_id slot, mx::Shape shape, mx::Dtype type,
                           const mx::Stream &s)
{
    std::vector<mx::array> parts;
    shape.insert(shape.begin(), 1);
    for (const Run *r : g.runs) {
        const std::optional<mx::array> *before = r->fresh ? nullptr : &(*r->before)[slot];
        parts.push_back(before && *before ? **before : mx::zeros(shape, type, s));
    }
    return concatenated(std::move(parts), 0, s);
}

static void keep_states(Group &g, mlxr_slot_id slot, const mx::array &states, const mx::Stream &s)
{
    for (size_t j = 0; j < g.runs.size(); j++) g.runs[j]->after[slot] = range(states, 0, j, j + 1, s);
}

void Step::short_conv(const mlxr_op &op, const Prepared &prep)
{
    const mlxr_slot &slot = p->slots[op.u.conv.slot];
    int C = as_int(slot.n_channels), taps = as_int(slot.n_taps);
    mx::array a = rows(op.a);
    std::vector<mx::array> out;

    for (Group &g : groups) {
        int S = as_int(g.runs.size()), len = as_int(g.n);
        mx::array x = mx::reshape(range(a, 0, g.first, g.first + g.size(), s), {S, len, C}, s);
        mx::array in = mx::concatenate({states_of(g, op.u.conv.slot, {taps, C}, type, s), x}, 1, s);
        mx::array rest = mx::contiguous(range(in, 1, (size_t)len, (size_t)(len + taps), s), false, s);
        keep_states(g, op.u.conv.slot, rest, s);
        mx::array y = mx::conv1d(in, *prep.vector, 1, 0, 1, C, s);
        if (op.bias != MLXR_NONE) y = mx::add(y, *e.weights[op.bias].data, s);
        out.push_back(mx::reshape(activate(op.u.conv.act, y, s), {S * len, C}, s));
    }
    set(op.dst, concatenated(std::move(out), 0, s));
}

// One token after the other, as mlx-lm's gated_delta_ops; the state stays float32.
void Step::gated_delta(const mlxr_op &op, const Prepared &)
{
    const mlxr_slot &slot = p->slots[op.u.delta.slot];
    int H = as_int(slot.n_kv_heads), Hk = as_int(op.u.delta.n_k_heads), Dk = as_int(slot.k_head_dim),
        Dv = as_int(slot.v_head_dim);
    mx::array q = rows(op.a), k = rows(op.b), v = rows(op.c);
    mx::array beta = mx::sigmoid(rows(op.e), s);
    mx::array decay = mx::exp(
        mx::negative(
            mx::multiply(mx::exp(*e.weights[op.weight].data, s),
                         mx::logaddexp(mx::add(rows(op.d), *e.weights[op.bias].data, s), mx::array(0.0f), s),
                         s),
            s),
        s);
    std::vector<mx::array> out;

    for (Group &g : groups) {
        int S = as_int(g.runs.size()), len = as_int(g.n);
        auto part = [&](const mx::array &a, mx::Shape shape) {
            shape.insert(shape.begin(), {S, len});
            return mx::reshape(range(a, 0, g.first, g.first + g.size(), s), std::move(shape), s);
        };
        mx::array qs = part(q, {Hk, Dk}), ks = part(k, {Hk, Dk}), vs = part(v, {H, Dv}),
                  ds = part(decay, {H, 1, 1}), bs = part(beta, {H, 1});
        mx::array state = states_of(g, op.u.delta.slot, {H, Dv, Dk}, mx::float32, s);
        std::vector<mx::array> ys;
        if (H != Hk) {
            qs = mx::repeat(qs, H / Hk, 2, s);
            ks = mx::repeat(ks, H / Hk, 2, s);
        }
        for (int t = 0; t < len; t++) {
            auto at = [&](const mx::array &a) {
                return mx::squeeze(range(a, 1, (size_t)t, (size_t)t + 1, s), 1, s);
            };
            mx::array key = mx::expand_dims(at(ks), -2, s), query = mx::expand_dims(at(qs), -2, s);
            state = mx::multiply(state, at(ds), s);
            mx::array seen = mx::sum(mx::multiply(state, key, s), std::vector<int>{-1}, false, s);
            mx::array delta = mx::multiply(mx::subtract(at(vs), seen, s), at(bs), s);
            state = mx::add(state, mx::multiply(key, mx::expand_dims(delta, -1, s), s), s);
            ys.push_back(mx::sum(mx::multiply(state, query, s), std::vector<int>{-1}, false, s));
        }
        keep_states(g, op.u.delta.slot, state, s);
        out.push_back(mx::reshape(mx::astype(mx::stack(ys, 1, s), type, s), {S * len, H * Dv}, s));
    }
    set(op.dst, concatenated(std::move(out), 0, s));
}
} // namespace mlxr_mlx
