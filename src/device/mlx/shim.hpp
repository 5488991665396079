// The MLX module: a program's operations as MLX's lazy arrays.
//
//     module.cpp    what C sees: every entry point, its exceptions turned into a status
//     weights.cpp   a program's weights as arrays
//     step.cpp      a batch: groups of tokens, the pieces it is cut into, what is computed ahead
//     ops.cpp       operations on rows: one function a kind
//     mix.cpp       operations that see other tokens, and their states
//
// A register is an array [n, width], n the tokens of the piece; what ROPE leaves for ATTEND has its heads apart. The
// arithmetic is that of mlx-lm's model files, in one type: float32 (exact), or the checkpoint's own (fast).
//
// Threads: as device.h says, one thread at a time owns a device. Every operation names its stream, because MLX's
// default device belongs to the whole process.
#ifndef MLXR_MLX_SHIM_HPP
#define MLXR_MLX_SHIM_HPP

#include <exception>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <mlx/mlx.h>

#include "device/mlx/module.h"

namespace mlxr_mlx
{
namespace mx = mlx::core;

extern const mlxr_mlx_host *host; // the library's side, the same for all who open the module

// A failure that is ours, with its status; what MLX throws is MLXR_E_DEVICE.
struct Failure : std::exception {
    mlxr_status status;
    std::string text;
    Failure(mlxr_status status, const char *fmt, ...) MLXR_PRINTF(3, 4);
    const char *what() const noexcept override { return text.c_str(); }
};

struct Device : mlxr_device {
    explicit Device(mx::Stream stream) : mlxr_device{}, stream(stream) {}
    mx::Stream stream;
    mlxr_precision precision = MLXR_PRECISION_DEFAULT;
    mlxr_log log{};
    size_t memory_limit = 0; // 0: MLX's own
    size_t former_limit = 0;
    bool ahead = false; // whether the next step is guessed and begun

    bool gpu() const { return stream.device == mx::Device::gpu; }
    // Fails when n more bytes would pass the limit that was asked for.
    void reserve(size_t n, const char *what) const;
};

// One weight. Of a stack: with a leading axis of experts.
struct Weight {
    std::optional<mx::array> data, scales, biases;
    std::optional<mx::array> factor; // a scale of the whole matrix [1], or of each expert [E]
    mlxr_quant quant{};
    bool quantized() const { return scales.has_value(); }
};

using Compiled = std::function<std::vector<mx::array>(const std::vector<mx::array> &)>;

// What an operation needs beside its weights, made once.
struct Prepared {
    std::optional<mx::array> vector;  // a norm's weight with its offset, SHORT_CONV's taps, SLICE's indices
    std::optional<mx::array> periods; // ROPE: 1 / inv_freq
    std::optional<mx::array> factors; // ROPE: scale on what is rotated, 1 on the rest; absent for scale 1
    Compiled fused;                   // ACT_MUL and EXPERTS on a GPU: the activation as one kernel
};

struct Executable : mlxr_executable {
    Executable() : mlxr_executable{} {}
    mx::Dtype type = mx::float32;
    std::vector<Weight> weights;
    std::vector<Prepared> prepared; // by operation
    size_t i_tail = 0;              // first operation after the last that mixes tokens
    size_t block_bytes = 0;

    Device &dev() const { return *static_cast<Device *>(device); }
};

// Keys and values of one slot: [1, Hkv, capacity, D], `capacity` a multiple of 256. MLX's CUDA attention knows this
// form. A position's place is its number, so a step that is run again writes over what it wrote before.
struct Cache {
    std::optional<mx::array> keys, values;
};

struct Sequence {
    std::vector<Cache> caches;                          // by slot
    std::vector<std::optional<mx::array>> recurrent[2]; // by slot, in two versions: see device.h
    size_t n_positions = 0;                             // that the caches hold
};

// The likeliest ids: for the next step, and a copy for the host, -1 where the best is not finite. (Reading an array may
// move it, which one that a GPU still works with must not.)
struct Likeliest {
    mx::array ids, for_host;
};

// The step after the last one, begun before it was asked for: that the likeliest ids follow.
struct Ahead {
    std::vector<uint32_t> sequences, positions;
    std::vector<unsigned> from;      // the versions it read
    std::optional<mx::array> ids;    // that were guessed, for the host
    std::optional<mx::array> logits; // in float32, unless only the likeliest ids were wanted before
    std::optional<Likeliest> guess;  // of the step after it
    std::vector<std::vector<std::optional<mx::array>>> recurrent; // by sequence, by slot
};

struct State : mlxr_state {
    State() : mlxr_state{} {}
    std::vector<Sequence> sequences;
    std::optional<Ahead> ahead;
    // The likeliest ids after the last step, if its rows were one token of each of these sequences.
    std::optional<mx::array> guess;
    std::vector<uint32_t> guess_sequences, guess_positions;
    int trust = 2;            // in guesses; see step.cpp
    bool wants_logits = true; // or the last step's likeliest ids were enough
};

// A run of tokens of one sequence in a piece.
struct Run {
    Sequence *sequence;
    size_t first, n, position;                           // first token in the piece
    bool fresh;                                          // nothing is before it
    const std::vector<std::optional<mx::array>> *before; // recurrent state, unless fresh
    std::vector<std::optional<mx::array>> after;
};

// Tokens whose attention is laid out together: n tokens of one sequence, or one token of each of several.
struct Group {
    std::vector<Run *> runs;
    size_t first, n; // tokens of each run
    std::optional<mx::array> offsets;
    std::map<size_t, mx::array> masks; // by window
    // Dynamic ROPE: cosines and sines [runs, 1, n, n_rot / 2], by the operation's frequencies
    std::map<const float *, std::pair<mx::array, mx::array>> turns;

    size_t size() const { return runs.size() * n; }
};

struct Register {
    std::optional<mx::array> rows; // [n, width]
    std::vector<mx::array> heads;  // by group: [runs, heads, n, D]
    // ROUTE: the experts' numbers and weights, [n, k] each. Rows are both, side by side, once they are wanted.
    std::optional<mx::array> index, weights;
};

// One piece of a batch on its way through the program.
class Step
{
  public:
    Step(Executable &e, mx::array ids, size_t n_tokens, std::vector<Run> runs);
    // Builds the graph. wanted: rows whose logits are wanted, rising; without any the tail is left out.
    // hidden: their final hidden states instead. cancel: looked at between operations.
    void build(const std::vector<uint32_t> &wanted, bool hidden, const volatile int *cancel);
    // What must be computed for the states to be as after the step.
    std::vector<mx::array> outputs() const;
    // Puts back the caches as they were before build.
    void undo();
    // Lets go of what undo needs, so that MLX may update caches in place.
    void settle() { undo_log.clear(); }

    std::optional<mx::array> logits; // [wanted, V]
    std::optional<mx::array> hidden; // [wanted, D], instead of logits
    std::vector<Run> runs;

  private:
    Executable &e;
    const mlxr_program *p;
    mx::Stream s;
    mx::Dtype type;
    size_t n; // rows of every register
    mx::array ids;
    std::vector<size_t> positions;
    std::vector<Group> groups;
    std::vector<Run> tail_runs; // one a wanted row
    std::vector<Register> regs;
    struct Undo {
        Cache *cache;
        Cache before;
    };
    std::vector<Undo> undo_log;

    void lay_out_groups();
    void enter_tail(const std::vector<uint32_t> &wanted);
    void run_op(size_t i);

    // Registers.
    mx::array rows(mlxr_reg_id r);
    std::vector<mx::array> heads(mlxr_reg_id r, size_t n_heads);
    void set(mlxr_reg_id r, mx::array rows);
    void set_heads(mlxr_reg_id r, std::vector<mx::array> heads);
    mx::array merge(const std::vector<mx::array> &heads) const;
    mx::array scalar(float value) const { return mx::array(value, type); }
    mx::array offsets(Group &g);

    // ops.cpp
    void embed(const mlxr_op &op, const Prepared &prep);
    void linear(const mlxr_op &op, const Prepared &prep);
    void rms_norm(const mlxr_op &op, const Prepared &prep);
    void layer_norm(const mlxr_op &op, const Prepared &prep);
    void act_mul(const mlxr_op &op, const Prepared &prep);
    void add(const mlxr_op &op, const Prepared &prep);
    void scale(const mlxr_op &op, const Prepared &prep);
    void softcap(const mlxr_op &op, const Prepared &prep);
    void slice(const mlxr_op &op, const Prepared &prep);
    void route(const mlxr_op &op, const Prepared &prep);
    void experts(const mlxr_op &op, const Prepared &prep);
    mx::array per_expert(mlxr_weight_id weight, mlxr_weight_id bias, const mx::array &x,
                         const mx::array &index, bool sorted);
    // mix.cpp
    void rope(const mlxr_op &op, const Prepared &prep);
    mx::array rope_dynamic(const mlxr_op &op, Group &g, const mx::array &x);
    void attend(const mlxr_op &op, const Prepared &prep);
    mx::array look(const mlxr_op &op, Group &g, size_t i_run, mx::array q, const Cache &c);
    const mx::array &mask(Group &g, const Run &r, size_t window, size_t begin);
    void append(const mlxr_op &op, Run &r, const mx::array &k, const mx::array &v);
    void short_conv(const mlxr_op &op, const Prepared &prep);
    void gated_delta(const mlxr_op &op, const Prepared &prep);

  public:
    // Refuses what the module cannot run, and makes what operations need.
    static Prepared prepare(const Executable &e, const mlxr_op &op);
};

// weights.cpp
std::vector<Weight> upload(const Executable &e, const mlxr_program *p);
mx::Dtype checkpoint_type(const mlxr_program *p);
// An array of our own from bytes at any address; std::bad_alloc when there is no memory.
mx::array from_bytes(const void *data, mx::Shape shape, mx::Dtype type);
mx::array from_floats(const float *v, size_t n);

// ops.cpp
mx::array activate(mlxr_act act, const mx::array &x, const mx::Stream &s);
Compiled fuse(mlxr_act act, float alpha, float limit, bool two, const Device &d);
// act(a) * b, or act(a)
mx::array gate(mlxr_act act, float alpha, float limit, const mx::array &a, const mx::array *b,
               const Prepared &prep, const mx::Stream &s);

// step.cpp
mlxr_status run_batch(Executable &e, State &st, const mlxr_batch *batch, const volatile int *cancel,
                      float *logits);

inline int as_int(size_t n)
{
    if (n > INT32_MAX) throw Failure(MLXR_E_LIMIT, "%zu is above MLX's largest dimension", n);
    return (int)n;
}
} // namespace mlxr_mlx

#endif
