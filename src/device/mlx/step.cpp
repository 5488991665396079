// A batch on its way: cut into pieces, its tokens laid out in groups, the program's operations one after the other as
// lazy arrays, and the step after it begun before it is asked for.
//
// Ahead. A caller that decodes reads logits, picks ids and calls again; meanwhile a GPU would wait. So after a step
// of one token a sequence the next one is built on the likeliest ids and started before the logits of this one are
// read. When the next call asks for just those ids, its answer is on the way; else it is dropped: caches are
// addressed by position, so what a dropped step wrote is written over, and recurrent states are kept apart until they
// are asked for. A wrong guess costs the device a step. So guesses are always made, which costs an argmax, but acted
// upon only while the last ones were right: from the start, and after a miss once more than `trust_after_miss` in a
// row would have been.
#include "device/mlx/shim.hpp"

#include <cstring>

namespace mlxr_mlx
{
namespace
{
constexpr int trust_at_start = 2, trust_after_miss = 4;
// Tokens evaluated at once; between pieces a step can be cancelled.
constexpr size_t piece_cpu = 512, piece_gpu = 2048;

void check_cancelled(const volatile int *cancel)
{
    if (mlxr_cancelled(cancel)) throw Failure(MLXR_E_CANCELLED, "cancelled");
}
} // namespace

// ---- groups ----

Step::Step(Executable &e, mx::array ids, size_t n_tokens, std::vector<Run> runs_)
    : runs(std::move(runs_)), e(e), p(e.program), s(e.dev().stream), type(e.type), n(n_tokens),
      ids(std::move(ids)), regs(e.program->n_regs)
{
    for (Run &r : runs) r.after.resize(p->n_slots);
    lay_out_groups();
}

void Step::lay_out_groups()
{
    for (Run &r : runs) {
        bool joins = !groups.empty() && groups.back().n == 1 && r.n == 1;
        if (!joins) groups.push_back(Group{{}, r.first, r.n, {}, {}, {}});
        groups.back().runs.push_back(&r);
    }
}

// ---- registers ----

// Heads [runs, H, n, D] as rows [runs * n, H * D].
mx::array Step::merge(const std::vector<mx::array> &parts) const
{
    std::vector<mx::array> rows;
    for (const mx::array &h : parts) {
        mx::array t = mx::transpose(h, {0, 2, 1, 3}, s);
        rows.push_back(mx::reshape(t, {t.shape(0) * t.shape(1), t.shape(2) * t.shape(3)}, s));
    }
    return rows.size() == 1 ? rows[0] : mx::concatenate(rows, 0, s);
}

mx::array Step::rows(mlxr_reg_id r)
{
    Register &reg = regs[r];
    if (!reg.rows && reg.index) {
        reg.rows = mx::concatenate({mx::astype(*reg.index, type, s), *reg.weights}, 1, s);
    } else if (!reg.rows) {
        if (reg.heads.empty())
            throw Failure(MLXR_E_INVALID_ARGUMENT, "register %s is read before it is written",
                          p->regs[r].name);
        reg.rows = merge(reg.heads);
    }
    return *reg.rows;
}

std::vector<mx::array> Step::heads(mlxr_reg_id r, size_t n_heads)
{
    Register &reg = regs[r];
    if (reg.heads.empty() || (size_t)reg.heads[0].shape(1) != n_heads) {
        mx::array a = rows(r);
        reg.heads.clear();
        for (const Group &g : groups) {
            mx::array part = a;
            if (groups.size() > 1)
                part = mx::slice(a, {(int)g.first, 0}, {(int)(g.first + g.size()), a.shape(1)}, {1, 1}, s);
            part = mx::reshape(part, {as_int(g.runs.size()), as_int(g.n), as_int(n_heads), -1}, s);
            reg.heads.push_back(mx::transpose(part, {0, 2, 1, 3}, s));
        }
    }
    return reg.heads;
}

void Step::set(mlxr_reg_id r, mx::array rows)
{
    regs[r] = Register{std::move(rows), {}, {}, {}};
}

void Step::set_heads(mlxr_reg_id r, std::vector<mx::array> heads)
{
    regs[r] = Register{{}, std::move(heads), {}, {}};
}

// From here on only the wanted rows go on.
void Step::enter_tail(const std::vector<uint32_t> &wanted)
{
    std::optional<mx::array> index;
    auto pick = [&](const mx::array &a) {
        if (wanted.size() == 1) {
            int w = (int)wanted[0];
            return mx::slice(a, {w, 0}, {w + 1, a.shape(1)}, {1, 1}, s);
        }
        if (!index) index = from_bytes(wanted.data(), {as_int(wanted.size())}, mx::uint32);
        return mx::take(a, *index, 0, s);
    };
    if (wanted.size() == n) return; // they rise: all of them
    for (mlxr_reg_id r = 0; r < p->n_regs; r++) {
        Register &reg = regs[r];
        if (reg.index) {
            reg = Register{{}, {}, pick(*reg.index), pick(*reg.weights)};
        } else if (reg.rows || !reg.heads.empty()) {
            set(r, pick(rows(r)));
        }
    }
    if (index || wanted.size() == 1) {
        mx::array flat = mx::reshape(ids, {(int)n, 1}, s);
        ids = mx::reshape(pick(flat), {as_int(wanted.size())}, s);
    }
    // Each wanted row stands for itself: a ROPE may still come.
    for (const Group &g : groups)
        for (const Run *r : g.runs)
            for (size_t i = 0; i < r->n; i++) positions.push_back(r->position + i);
    groups.assign(1, Group{{}, 0, 1, {}, {}, {}});
    tail_runs.reserve(wanted.size());
    for (uint32_t w : wanted) {
        tail_runs.push_back(Run{nullptr, w, 1, positions[w], false, nullptr, {}});
        groups[0].runs.push_back(&tail_runs.back());
    }
    n = wanted.size();
}

// ---- the graph ----

void Step::build(const std::vector<uint32_t> &wanted, bool wants_hidden, const volatile int *cancel)
{
    for (size_t i = 0; i < (wants_hidden ? p->n_ops_hidden : p->n_ops); i++) {
        if (i == e.i_tail) {
            if (wanted.empty()) return;
            enter_tail(wanted);
        }
        check_cancelled(cancel);
        run_op(i);
    }
    if (wants_hidden)
        hidden = rows(p->hidden);
    else
        logits = rows(p->logits);
}

std::vector<mx::array> Step::outputs() const
{
    std::vector<mx::array> out;
    for (const Run &r : runs) {
        for (const Cache &c : r.sequence->caches)
            if (c.keys) {
                out.push_back(*c.keys);
                out.push_back(*c.values);
            }
        for (const auto &a : r.after)
            if (a) out.push_back(*a);
    }
    return out;
}

void Step::undo()
{
    for (size_t i = undo_log.size(); i-- > 0;) *undo_log[i].cache = undo_log[i].before;
    undo_log.clear();
}

// ---- running ----

namespace
{
// After MLX failed in the middle of an evaluation: a cache that can still be had keeps what it had, another is lost.
void salvage(Sequence &q)
{
    try {
        std::vector<mx::array> all;
        for (const Cache &c : q.caches)
            if (c.keys) {
                all.push_back(*c.keys);
                all.push_back(*c.values);
            }
        mx::eval(all);
    } catch (...) {
        for (Cache &c : q.caches) c = Cache{};
        q.n_positions = 0;
    }
}

struct Piece {
    size_t first, n;              // tokens of the batch
    std::vector<uint32_t> wanted; // rows of the piece
};

mx::array ids_of(const int32_t *ids, size_t n)
{
    return from_bytes(ids, {as_int(n)}, mx::int32);
}

std::vector<Run> runs_of(const Executable &e, State &st, const mlxr_batch *b, size_t first, size_t n)
{
    std::vector<Run> out;
    for (size_t t = first; t < first + n; t++) {
        if (!out.empty() && b->seqs[t] == b->seqs[t - 1]) {
            out.back().n++;
            continue;
        }
        const mlxr_sequence_step &step = b->steps[b->seqs[t]];
        Sequence &q = st.sequences[b->tables[b->seqs[t]].sequence];
        bool begins = t == 0 || b->seqs[t] != b->seqs[t - 1]; // else a former piece had its first tokens
        Run r{&q,
              t - first,
              1,
              b->positions[t],
              begins && step.fresh,
              &q.recurrent[begins ? step.from : step.to],
              {}};
        if (b->positions[t] == 0) {
            for (Cache &c : q.caches) c = Cache{};
            q.n_positions = 0;
        }
        if (b->positions[t] > q.n_positions && e.block_bytes > 0)
            throw Failure(MLXR_E_DEVICE,
                          "sequence %u goes on at position %u, but %zu are cached (a step before this one "
                          "failed, or was never run)",
                          (unsigned)b->tables[b->seqs[t]].sequence, (unsigned)b->positions[t], q.n_positions);
        out.push_back(std::move(r));
    }
    return out;
}

// What a finished step leaves in its sequences.
void commit(Step &step, const mlxr_batch *b, size_t first)
{
    for (Run &r : step.runs) {
        Sequence &q = *r.sequence;
        const mlxr_sequence_step &v = b->steps[b->seqs[first + r.first]];
        q.n_positions = r.position + r.n;
        q.recurrent[v.to] = std::move(r.after);
    }
}

// Whether every token is the only one of its sequence, and its row is wanted.
bool decodes(const mlxr_batch *b)
{
    if (b->n_rows != b->n_tokens) return false;
    for (size_t t = 1; t < b->n_tokens; t++)
        if (b->seqs[t] == b->seqs[t - 1]) return false;
    return true;
}

bool same_ids(mx::array &guess, const mlxr_batch *b)
{
    guess.eval();
    return std::memcmp(guess.data<int32_t>(), b->ids, b->n_tokens * sizeof *b->ids) == 0;
}

// Whether the batch goes on one token behind what `sequences` and `positions` were.
bool follows(const std::vector<uint32_t> &sequences, const std::vector<uint32_t> &positions,
             const mlxr_batch *b)
{
    if (sequences.size() != b->n_tokens || !decodes(b)) return false;
    for (size_t t = 0; t < b->n_tokens; t++)
        if (b->tables[b->seqs[t]].sequence != sequences[t] || b->positions[t] != positions[t] + 1)
            return false;
    return true;
}

// Scores the last guess against what is asked for now.
void judge(State &st, const mlxr_batch *b)
{
    if (!st.guess) return;
    if (follows(st.guess_sequences, st.guess_positions, b)) {
        if (same_ids(*st.guess, b))
            st.trust = st.trust < 0 ? st.trust + 1 : trust_at_start;
        else
            st.trust = -trust_after_miss;
    }
    st.guess.reset();
}

void remember_guess(State &st, const mlxr_batch *b, const mx::array &guess)
{
    st.guess = guess;
    st.guess_sequences.clear();
    st.guess_positions.clear();
    for (size_t t = 0; t < b->n_tokens; t++) {
        st.guess_sequences.push_back(b->tables[b->seqs[t]].sequence);
        st.guess_positions.push_back(b->positions[t]);
    }
}

Likeliest likeliest(const mx::array &logits, const Device &d)
{
    mx::array ids = mx::argmax(logits, -1, false, d.stream);
    mx::array finite = mx::isfinite(mx::max(logits, -1, false, d.stream), d.stream);
    return {ids, mx::where(finite, mx::astype(ids, mx::int32, d.stream), mx::array(-1), d.stream)};
}

bool room_for_next(const mlxr_batch *b)
{
    for (size_t t = 0; t < b->n_tokens; t++)
        if (((size_t)b->positions[t] + 1) / MLXR_KV_BLOCK >= b->tables[b->seqs[t]].n_blocks) return false;
    return true;
}

// Builds and starts the step after a batch that decodes. Whatever fails is left for the step that asks for it.
void begin_ahead(Executable &e, State &st, const mlxr_batch *b, const Likeliest &guess)
{
    Ahead a;
    std::vector<Run> runs;
    if (!e.dev().ahead || st.trust < trust_at_start || !room_for_next(b)) return;
    for (size_t t = 0; t < b->n_tokens; t++) {
        Sequence &q = st.sequences[b->tables[b->seqs[t]].sequence];
        unsigned from = b->steps[b->seqs[t]].to;
        runs.push_back(Run{&q, t, 1, (size_t)b->positions[t] + 1, false, &q.recurrent[from], {}});
        a.sequences.push_back(b->tables[b->seqs[t]].sequence);
        a.positions.push_back(b->positions[t] + 1);
        a.from.push_back(from);
    }
    Step step(e, guess.ids, b->n_tokens, std::move(runs));
    try {
        std::vector<uint32_t> all(b->n_tokens);
        for (size_t i = 0; i < all.size(); i++) all[i] = (uint32_t)i;
        step.build(all, false, nullptr);
        if (st.wants_logits) a.logits = mx::astype(*step.logits, mx::float32, e.dev().stream);
        a.guess = likeliest(*step.logits, e.dev());
    } catch (...) {
        step.undo();
        return;
    }
    step.settle();
    std::vector<mx::array> out = step.outputs();
    if (a.logits) out.push_back(*a.logits);
    out.push_back(a.guess->ids);
    out.push_back(a.guess->for_host);
    a.ids = guess.for_host;
    for (Run &r : step.runs) a.recurrent.push_back(std::move(r.after));
    mx::async_eval(std::move(out));
    st.ahead = std::move(a);
}

void copy_floats(float *to, mx::array from, const Device &d)
{
    from.eval(); // waits for it
    if (!from.flags().row_contiguous) {
        from = mx::contiguous(from, false, d.stream);
        from.eval();
    }
    std::memcpy(to, from.data<float>(), from.size() * sizeof *to);
}

void copy_ids(int32_t *to, mx::array ids)
{
    ids.eval();
    std::memcpy(to, ids.data<int32_t>(), ids.size() * sizeof *to);
}

// The answer that is under way, when it is the one asked for.
bool take_ahead(Executable &e, State &st, const mlxr_batch *b, float *logits)
{
    if (!st.ahead) return false;
    Ahead a = std::move(*st.ahead);
    st.ahead.reset();
    if (a.sequences.size() != b->n_tokens || !decodes(b)) return false;
    if (!a.logits && !b->likeliest) return false;
    for (size_t t = 0; t < b->n_tokens; t++) {
        const mlxr_sequence_step &v = b->steps[b->seqs[t]];
        if (b->tables[b->seqs[t]].sequence != a.sequences[t] || b->positions[t] != a.positions[t] ||
            v.fresh || (e.program->n_sequence_floats > 0 && v.from != a.from[t]))
            return false;
    }
    if (!same_ids(*a.ids, b)) return false;
    for (size_t t = 0; t < b->n_tokens; t++) {
        Sequence &q = st.sequences[a.sequences[t]];
        q.n_positions = (size_t)a.positions[t] + 1;
        q.recurrent[b->steps[b->seqs[t]].to] = std::move(a.recurrent[t]);
    }
    remember_guess(st, b, a.guess->for_host);
    begin_ahead(e, st, b, *a.guess);
    if (b->likeliest)
        copy_ids(b->likeliest, a.guess->for_host);
    else
        copy_floats(logits, *a.logits, e.dev());
    return true;
}

// Where a piece's answers go: to the first of these that there is.
struct Answers {
    float *hidden;
    int32_t *ids;
    float *logits;
};

void run_piece(Executable &e, State &st, const mlxr_batch *b, const Piece &piece, bool last,
               const volatile int *cancel, const Answers &to)
{
    Step step(e, ids_of(b->ids + piece.first, piece.n), piece.n, runs_of(e, st, b, piece.first, piece.n));
    std::optional<mx::array> answer;
    std::optional<Likeliest> guess;
    int32_t *ids = to.hidden ? nullptr : to.ids;
    bool single = last && piece.first == 0 && decodes(b) && !to.hidden;
    try {
        step.build(piece.wanted, to.hidden != nullptr, cancel);
        check_cancelled(cancel);
        if (step.hidden) answer = mx::astype(*step.hidden, mx::float32, e.dev().stream);
        if (step.logits && !ids) answer = mx::astype(*step.logits, mx::float32, e.dev().stream);
        if (step.logits && (single || ids)) guess = likeliest(*step.logits, e.dev());
    } catch (...) {
        step.undo();
        throw;
    }
    step.settle();
    try {
        std::vector<mx::array> out = step.outputs();
        if (answer) out.push_back(*answer);
        if (guess) {
            out.push_back(guess->ids);
            out.push_back(guess->for_host);
        }
        if (!answer && !guess && e.dev().gpu()) {
            // The host may go on to the next chunk; one is under way at most.
            mx::synchronize(e.dev().stream);
            mx::async_eval(std::move(out));
        } else if (single && e.dev().ahead) {
            mx::async_eval(std::move(out));
        } else {
            mx::eval(std::move(out));
        }
        commit(step, b, piece.first);
        if (single) {
            remember_guess(st, b, guess->for_host);
            begin_ahead(e, st, b, *guess);
        }
        if (answer) copy_floats(to.hidden ? to.hidden : to.logits, *answer, e.dev());
        if (ids && guess) copy_ids(ids, guess->for_host);
    } catch (...) {
        st.ahead.reset();
        st.guess.reset();
        for (Run &r : step.runs) salvage(*r.sequence);
        throw;
    }
}
} // namespace

mlxr_status run_batch(Executable &e, State &st, const mlxr_batch *b, const volatile int *cancel,
                      float *logits)
{
    size_t most = e.dev().gpu() ? piece_gpu : piece_cpu, i_row = 0;

    check_cancelled(cancel);
    st.wants_logits = !b->likeliest;
    judge(st, b);
    if (b->hidden) st.ahead.reset(); // its answer is no hidden state
    try {
        if (take_ahead(e, st, b, logits)) return MLXR_OK;
    } catch (...) {
        st.ahead.reset();
        st.guess.reset();
        for (size_t t = 0; t < b->n_tokens; t++) salvage(st.sequences[b->tables[b->seqs[t]].sequence]);
        throw;
    }
    for (size_t t = 0; t < b->n_tokens;) {
        Piece piece{t, b->n_tokens - t < most ? b->n_tokens - t : most, {}};
        size_t first_row = i_row;
        for (; i_row < b->n_rows && b->rows[i_row] < t + piece.n; i_row++)
            piece.wanted.push_back((uint32_t)(b->rows[i_row] - t));
        run_piece(e, st, b, piece, t + piece.n == b->n_tokens, cancel,
                  {b->hidden ? b->hidden + first_row * e.program->hidden_size : nullptr,
                   b->likeliest ? b->likeliest + first_row : nullptr,
                   logits ? logits + first_row * e.program->vocab_size : nullptr});
        t += piece.n;
    }
    return MLXR_OK;
}
} // namespace mlxr_mlx
