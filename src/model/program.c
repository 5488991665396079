/* Programs: the builder with its checks, and their end. A family's mistake and a hostile config.json both end
 * here as one message that names the operation, the registers and the widths. */
#include "model/program.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Floats a token in one register, and elements in one dimension of a weight: far above any real model, and low
 * enough that a row of float32 and the product of two such numbers fit a size_t. */
#define MAX_WIDTH ((size_t)1 << 28)
enum { MAX_EXPERTS = 1 << 14 };

struct mlxr_builder {
    mlxr_program *p;
    mlxr_strtab weights; /* tensor name (name + suffix) -> index into p->weights */
    bool *written;       /* [cap_regs] whether an operation so far writes the register */
    size_t cap_regs, cap_weights, cap_slots, cap_ops;
    mlxr_reg_id hidden;  /* see mlxr_build_hidden */
    size_t n_ops_hidden; /* 0: not said */
    mlxr_error err;      /* the first failure; code MLXR_OK: none */
};

const char *mlxr_op_name(mlxr_op_kind k)
{
    static const char *const names[] = {
#define NAME(name, text) #name,
        MLXR_OP_LIST(NAME)
#undef NAME
    };
    return (unsigned)k < MLXR_OP_COUNT ? names[k] : "?";
}

const char *mlxr_act_name(mlxr_act a)
{
    switch (a) {
    case MLXR_ACT_NONE: return "none";
    case MLXR_ACT_SILU: return "silu";
    case MLXR_ACT_GELU: return "gelu";
    case MLXR_ACT_GELU_TANH: return "gelu_tanh";
    case MLXR_ACT_SIGMOID: return "sigmoid";
    case MLXR_ACT_SWIGLU_OAI: return "swiglu_oai";
    }
    return "?";
}

mlxr_op mlxr_op_init(mlxr_op_kind kind, int32_t i_layer)
{
    mlxr_op op = {.kind = kind,
                  .i_layer = i_layer,
                  .dst = MLXR_NONE,
                  .a = MLXR_NONE,
                  .b = MLXR_NONE,
                  .c = MLXR_NONE,
                  .d = MLXR_NONE,
                  .e = MLXR_NONE,
                  .weight = MLXR_NONE,
                  .bias = MLXR_NONE};
    switch (kind) { /* neutral values where 0 is not */
    case MLXR_OP_EMBED: op.u.embed.scale = 1; break;
    case MLXR_OP_ROPE: op.u.rope.scale = 1; break;
    case MLXR_OP_SCALE: op.u.scale.factor = 1; break;
    case MLXR_OP_ROUTE: op.u.route.scale = 1; break;
    case MLXR_OP_EXPERTS:
        op.u.experts.gate = op.u.experts.up = op.u.experts.down = MLXR_NONE;
        op.u.experts.gate_bias = op.u.experts.up_bias = op.u.experts.down_bias = MLXR_NONE;
        break;
    default: break;
    }
    return op;
}

size_t mlxr_op_inputs(const mlxr_op *op, mlxr_reg_id regs[MLXR_OP_MAX_INPUTS])
{
    const mlxr_reg_id all[MLXR_OP_MAX_INPUTS] = {op->a, op->b, op->c, op->d, op->e};
    size_t n = 0;

    for (size_t i = 0; i < MLXR_OP_MAX_INPUTS; i++)
        if (all[i] != MLXR_NONE) regs[n++] = all[i];
    return n;
}

size_t mlxr_op_weights(const mlxr_op *op, mlxr_weight_id weights[MLXR_OP_MAX_WEIGHTS])
{
    mlxr_weight_id all[MLXR_OP_MAX_WEIGHTS] = {op->weight, op->bias,  MLXR_NONE,
                                               MLXR_NONE,  MLXR_NONE, MLXR_NONE};
    size_t n = 0;

    if (op->kind == MLXR_OP_EXPERTS) {
        all[0] = op->u.experts.gate;
        all[1] = op->u.experts.up;
        all[2] = op->u.experts.down;
        all[3] = op->u.experts.gate_bias;
        all[4] = op->u.experts.up_bias;
        all[5] = op->u.experts.down_bias;
    }
    for (size_t i = 0; i < MLXR_OP_MAX_WEIGHTS; i++)
        if (all[i] != MLXR_NONE) weights[n++] = all[i];
    return n;
}

bool mlxr_op_mixes_tokens(mlxr_op_kind k)
{
    return k == MLXR_OP_ATTEND || k == MLXR_OP_SHORT_CONV || k == MLXR_OP_GATED_DELTA;
}

mlxr_slot_id mlxr_op_slot(const mlxr_op *op)
{
    switch (op->kind) {
    case MLXR_OP_ATTEND: return op->u.attend.slot;
    case MLXR_OP_SHORT_CONV: return op->u.conv.slot;
    case MLXR_OP_GATED_DELTA: return op->u.delta.slot;
    default: return MLXR_NONE;
    }
}

/* ---- the growing program ---- */

mlxr_status mlxr_builder_create(mlxr_builder **out, const char *family, mlxr_error *err)
{
    mlxr_builder *b = calloc(1, sizeof *b);

    *out = NULL;
    if (!b) return mlxr_fail_nomem(err, "model program");
    b->p = calloc(1, sizeof *b->p);
    if (b->p) b->p->family = mlxr_arena_strndup(&b->p->arena, family, strlen(family));
    if (!b->p || !b->p->family) {
        mlxr_builder_free(b);
        return mlxr_fail_nomem(err, "model program");
    }
    *out = b;
    return MLXR_OK;
}

/* While it is built, the arrays of a program lie on the heap, where they can grow; its names and numbers are
 * in the arena from the start. */
static void free_growing(mlxr_program *p)
{
    free(p->regs);
    free(p->weights);
    free(p->slots);
    free(p->ops);
    mlxr_arena_clear(&p->arena);
    free(p);
}

void mlxr_builder_free(mlxr_builder *b)
{
    if (!b) return;
    mlxr_strtab_clear(&b->weights);
    free(b->written);
    if (b->p) free_growing(b->p);
    free(b);
}

void mlxr_program_free(mlxr_program *p)
{
    if (!p) return;
    mlxr_arena_clear(&p->arena);
    free(p);
}

static bool failed(const mlxr_builder *b)
{
    return b->err.code != MLXR_OK;
}

static void out_of_memory(mlxr_builder *b)
{
    if (!failed(b)) mlxr_fail_nomem(&b->err, "model program");
}

/* Room for one more element of an array with n of them; false when there is none. */
static bool grow(mlxr_builder *b, void *array, size_t *cap, size_t n, size_t size)
{
    void **p = array, *bigger;
    size_t want = *cap ? *cap * 2 : 16;

    if (n < *cap) return true;
    bigger = n < MLXR_NONE / 2 ? mlxr_realloc_array(*p, want, size) : NULL;
    if (!bigger) {
        out_of_memory(b);
        return false;
    }
    *p = bigger;
    *cap = want;
    return true;
}

static char *vprint_name(mlxr_builder *b, const char *fmt, va_list ap)
{
    char text[256];
    char *name = NULL;
    int n = vsnprintf(text, sizeof text, fmt, ap);

    if (n < 0 || (size_t)n >= sizeof text) {
        mlxr_fail(&b->err, MLXR_E_INTERNAL, "model program: weight name \"%s\" is too long", fmt);
        return NULL;
    }
    name = mlxr_arena_strndup(&b->p->arena, text, (size_t)n);
    if (!name) out_of_memory(b);
    return name;
}

static mlxr_weight_id build_weight(mlxr_builder *b, const char *name, const char *suffix, size_t n_experts,
                                   size_t n_rows, size_t n_cols, bool is_vector)
{
    mlxr_program *p = b->p;
    char *key;
    size_t i;

    if (n_rows == 0 || n_cols == 0 || n_rows > MAX_WIDTH || n_cols > MAX_WIDTH) {
        mlxr_fail(&b->err, MLXR_E_FORMAT, "model program: weight %s%s has shape [%zu, %zu], wanted 1 to %zu",
                  name, suffix, n_rows, n_cols, MAX_WIDTH);
        return MLXR_NONE;
    }
    key = mlxr_arena_printf(&p->arena, "%s%s", name, suffix);
    if (!key) {
        out_of_memory(b);
        return MLXR_NONE;
    }
    i = mlxr_strtab_get(&b->weights, key, strlen(key));
    if (i != SIZE_MAX) {
        const mlxr_weight *w = &p->weights[i];
        if (w->n_rows == n_rows && w->n_cols == n_cols && w->is_vector == is_vector &&
            w->n_experts == n_experts)
            return (mlxr_weight_id)i;
        mlxr_fail(&b->err, MLXR_E_FORMAT,
                  "model program: weight %s has shape [%zu, %zu] in one place and [%zu, %zu] in another", key,
                  w->n_rows, w->n_cols, n_rows, n_cols);
        return MLXR_NONE;
    }
    if (!grow(b, &p->weights, &b->cap_weights, p->n_weights, sizeof *p->weights)) return MLXR_NONE;
    suffix = mlxr_arena_strndup(&p->arena, suffix, strlen(suffix));
    if (!suffix || !mlxr_strtab_put(&b->weights, key, strlen(key), p->n_weights, NULL)) {
        out_of_memory(b);
        return MLXR_NONE;
    }
    p->weights[p->n_weights] = (mlxr_weight){.name = name,
                                             .suffix = suffix,
                                             .n_experts = n_experts,
                                             .n_rows = n_rows,
                                             .n_cols = n_cols,
                                             .is_vector = is_vector};
    return (mlxr_weight_id)p->n_weights++;
}

/* The four ways to declare a weight differ in what they fix; the name is printf's business in all. */
#define PRINT_NAME(b, fmt, name)        \
    do {                                \
        va_list ap;                     \
        va_start(ap, fmt);              \
        name = vprint_name(b, fmt, ap); \
        va_end(ap);                     \
    } while (0)

mlxr_weight_id mlxr_build_matrix(mlxr_builder *b, size_t n_rows, size_t n_cols, const char *fmt, ...)
{
    char *name;

    if (failed(b)) return MLXR_NONE;
    PRINT_NAME(b, fmt, name);
    return name ? build_weight(b, name, ".weight", 0, n_rows, n_cols, false) : MLXR_NONE;
}

mlxr_weight_id mlxr_build_matrix_as(mlxr_builder *b, size_t n_rows, size_t n_cols, const char *suffix,
                                    const char *fmt, ...)
{
    char *name;

    if (failed(b)) return MLXR_NONE;
    PRINT_NAME(b, fmt, name);
    return name ? build_weight(b, name, suffix, 0, n_rows, n_cols, false) : MLXR_NONE;
}

mlxr_weight_id mlxr_build_stack(mlxr_builder *b, size_t n_experts, size_t n_rows, size_t n_cols,
                                const char *suffix, const char *fmt, ...)
{
    char *name;

    if (failed(b)) return MLXR_NONE;
    PRINT_NAME(b, fmt, name);
    if (!name) return MLXR_NONE;
    if (n_experts == 0 || n_experts > MAX_EXPERTS) {
        mlxr_fail(&b->err, MLXR_E_FORMAT, "model program: weight %s%s has %zu experts, wanted 1 to %d", name,
                  suffix, n_experts, MAX_EXPERTS);
        return MLXR_NONE;
    }
    return build_weight(b, name, suffix, n_experts, n_rows, n_cols, false);
}

mlxr_weight_id mlxr_build_vector(mlxr_builder *b, size_t n, const char *suffix, const char *fmt, ...)
{
    char *name;

    if (failed(b)) return MLXR_NONE;
    PRINT_NAME(b, fmt, name);
    return name ? build_weight(b, name, suffix, 0, 1, n, true) : MLXR_NONE;
}

mlxr_weight_id mlxr_build_vectors(mlxr_builder *b, size_t n_runs, size_t n, const char *suffix,
                                  const char *fmt, ...)
{
    mlxr_weight_id id;
    size_t all = 0;
    char *name;

    if (failed(b)) return MLXR_NONE;
    PRINT_NAME(b, fmt, name);
    if (!name) return MLXR_NONE;
    if (!mlxr_mul_size(&all, n_runs, n)) all = SIZE_MAX; /* refused as too large */
    id = build_weight(b, name, suffix, 0, 1, all, true);
    if (id != MLXR_NONE) b->p->weights[id].n_runs = n_runs;
    return id;
}

mlxr_reg_id mlxr_build_reg(mlxr_builder *b, const char *name, size_t width)
{
    mlxr_program *p = b->p;
    size_t cap = b->cap_regs;

    if (failed(b)) return MLXR_NONE;
    if (width == 0 || width > MAX_WIDTH) {
        mlxr_fail(&b->err, MLXR_E_FORMAT, "model program: register %s is %zu wide, wanted 1 to %zu", name,
                  width, MAX_WIDTH);
        return MLXR_NONE;
    }
    for (size_t i = 0; i < p->n_regs; i++) {
        if (strcmp(p->regs[i].name, name) != 0) continue;
        if (p->regs[i].width == width) return (mlxr_reg_id)i;
        mlxr_fail(&b->err, MLXR_E_FORMAT,
                  "model program: register %s is %zu wide in one place and %zu in another", name,
                  p->regs[i].width, width);
        return MLXR_NONE;
    }
    if (!grow(b, &b->written, &cap, p->n_regs, sizeof *b->written)) return MLXR_NONE;
    if (!grow(b, &p->regs, &b->cap_regs, p->n_regs, sizeof *p->regs)) return MLXR_NONE;
    name = mlxr_arena_strndup(&p->arena, name, strlen(name));
    if (!name) {
        out_of_memory(b);
        return MLXR_NONE;
    }
    b->written[p->n_regs] = false;
    p->regs[p->n_regs] = (mlxr_reg){.name = name, .width = width};
    return (mlxr_reg_id)p->n_regs++;
}

static mlxr_slot_id add_slot(mlxr_builder *b, const char *name, mlxr_slot slot)
{
    mlxr_program *p = b->p;

    if (!grow(b, &p->slots, &b->cap_slots, p->n_slots, sizeof *p->slots)) return MLXR_NONE;
    slot.name = mlxr_arena_strndup(&p->arena, name, strlen(name));
    slot.offset = p->n_sequence_floats;
    if (!slot.name || !mlxr_add_size(&p->n_sequence_floats, p->n_sequence_floats, slot.n_floats)) {
        out_of_memory(b);
        return MLXR_NONE;
    }
    p->slots[p->n_slots] = slot;
    return (mlxr_slot_id)p->n_slots++;
}

/* Heads of two widths: both widths of all heads together stay below the bound. */
static bool check_slot_heads(mlxr_builder *b, const char *name, size_t n_heads, size_t k_dim, size_t v_dim)
{
    if (n_heads > 0 && k_dim > 0 && v_dim > 0 && n_heads <= MAX_WIDTH && k_dim <= MAX_WIDTH / n_heads &&
        v_dim <= MAX_WIDTH / n_heads)
        return true;
    mlxr_fail(&b->err, MLXR_E_FORMAT,
              "model program: slot %s has %zu heads of %zu and %zu values, wanted at least 1 and at most %zu "
              "in all",
              name, n_heads, k_dim, v_dim, MAX_WIDTH);
    return false;
}

mlxr_slot_id mlxr_build_slot(mlxr_builder *b, const char *name, size_t n_kv_heads, size_t k_head_dim,
                             size_t v_head_dim, size_t window)
{
    mlxr_slot slot = {.kind = MLXR_SLOT_KV,
                      .n_kv_heads = n_kv_heads,
                      .k_head_dim = k_head_dim,
                      .v_head_dim = v_head_dim,
                      .window = window};

    if (failed(b) || !check_slot_heads(b, name, n_kv_heads, k_head_dim, v_head_dim)) return MLXR_NONE;
    return add_slot(b, name, slot);
}

mlxr_slot_id mlxr_build_conv_slot(mlxr_builder *b, const char *name, size_t n_channels, size_t n_taps)
{
    mlxr_slot slot = {.kind = MLXR_SLOT_CONV, .n_channels = n_channels, .n_taps = n_taps};

    if (failed(b)) return MLXR_NONE;
    if (n_channels == 0 || n_taps == 0 || n_taps > MAX_WIDTH || n_channels > MAX_WIDTH / n_taps) {
        mlxr_fail(
            &b->err, MLXR_E_FORMAT,
            "model program: slot %s has %zu channels and %zu taps, wanted at least 1 and at most %zu in all",
            name, n_channels, n_taps, MAX_WIDTH);
        return MLXR_NONE;
    }
    slot.n_floats = n_channels * n_taps;
    return add_slot(b, name, slot);
}

mlxr_slot_id mlxr_build_delta_slot(mlxr_builder *b, const char *name, size_t n_heads, size_t k_head_dim,
                                   size_t v_head_dim)
{
    mlxr_slot slot = {
        .kind = MLXR_SLOT_DELTA, .n_kv_heads = n_heads, .k_head_dim = k_head_dim, .v_head_dim = v_head_dim};

    if (failed(b) || !check_slot_heads(b, name, n_heads, k_head_dim, v_head_dim)) return MLXR_NONE;
    if (n_heads * k_head_dim > MAX_WIDTH / v_head_dim) {
        mlxr_fail(&b->err, MLXR_E_FORMAT,
                  "model program: slot %s has %zu states of %zu times %zu values, wanted at most %zu in all",
                  name, n_heads, v_head_dim, k_head_dim, MAX_WIDTH);
        return MLXR_NONE;
    }
    slot.n_floats = n_heads * k_head_dim * v_head_dim;
    return add_slot(b, name, slot);
}

const float *mlxr_build_floats(mlxr_builder *b, const float *v, size_t n)
{
    float *copy;

    if (failed(b)) return NULL;
    copy = mlxr_arena_calloc(&b->p->arena, n, sizeof *copy);
    if (!copy) {
        out_of_memory(b);
        return NULL;
    }
    if (n) memcpy(copy, v, n * sizeof *copy);
    return copy;
}

/* ---- checks of one operation ---- */

/* Where an operation stands in messages. */
static void bad_op(mlxr_builder *b, const mlxr_op *op, const char *what)
{
    mlxr_fail(&b->err, MLXR_E_INTERNAL, "model program: operation %zu (%s, layer %d): %s", b->p->n_ops,
              mlxr_op_name(op->kind), (int)op->i_layer, what);
}

static void bad_width(mlxr_builder *b, const mlxr_op *op, const char *field, mlxr_reg_id r, size_t want)
{
    char text[512];
    snprintf(text, sizeof text, "%s is register %.64s of width %zu, wanted %zu", field, b->p->regs[r].name,
             b->p->regs[r].width, want);
    bad_op(b, op, text);
}

/* The register is there, has this width (0: any) and, when it is read, was written before. */
static bool check_reg(mlxr_builder *b, const mlxr_op *op, const char *field, mlxr_reg_id r, size_t width,
                      bool read)
{
    char text[128];

    if (r >= b->p->n_regs) {
        snprintf(text, sizeof text, "%s is not a register", field);
        bad_op(b, op, text);
        return false;
    }
    if (width && b->p->regs[r].width != width) {
        bad_width(b, op, field, r, width);
        return false;
    }
    if (read && !b->written[r]) {
        snprintf(text, sizeof text, "%s reads register %.64s before anything is in it", field,
                 b->p->regs[r].name);
        bad_op(b, op, text);
        return false;
    }
    return true;
}

static bool check_weight(mlxr_builder *b, const mlxr_op *op, const char *field, mlxr_weight_id id,
                         size_t n_rows, size_t n_cols, bool is_vector)
{
    const mlxr_weight *w;
    char text[512];

    if (id >= b->p->n_weights) {
        snprintf(text, sizeof text, "%s is not a weight", field);
        bad_op(b, op, text);
        return false;
    }
    w = &b->p->weights[id];
    if (w->is_vector == is_vector && w->n_experts == 0 && w->n_rows == n_rows && w->n_cols == n_cols)
        return true;
    snprintf(text, sizeof text, "%s %.200s%s is a %s [%zu, %zu], wanted a %s [%zu, %zu]", field, w->name,
             w->suffix,
             w->is_vector   ? "vector"
             : w->n_experts ? "stack of matrices"
                            : "matrix",
             w->n_rows, w->n_cols, is_vector ? "vector" : "matrix", n_rows, n_cols);
    bad_op(b, op, text);
    return false;
}

/* A weight that may be absent. */
static bool check_vector(mlxr_builder *b, const mlxr_op *op, const char *field, mlxr_weight_id id, size_t n)
{
    return id == MLXR_NONE || check_weight(b, op, field, id, 1, n, true);
}

static bool check_stack(mlxr_builder *b, const mlxr_op *op, const char *field, mlxr_weight_id id,
                        size_t n_experts, size_t n_rows, size_t n_cols)
{
    const mlxr_weight *w;
    char text[512];

    if (id >= b->p->n_weights) {
        snprintf(text, sizeof text, "%s is not a weight", field);
        bad_op(b, op, text);
        return false;
    }
    w = &b->p->weights[id];
    if (w->n_experts == n_experts && w->n_rows == n_rows && w->n_cols == n_cols) return true;
    snprintf(text, sizeof text, "%s %.200s%s is %zu matrices [%zu, %zu], wanted %zu of [%zu, %zu]", field,
             w->name, w->suffix, w->n_experts, w->n_rows, w->n_cols, n_experts, n_rows, n_cols);
    bad_op(b, op, text);
    return false;
}

static bool check_rope(mlxr_builder *b, const mlxr_op *op)
{
    size_t width;

    if (op->dst != op->a) {
        bad_op(b, op, "rotates in place, so dst and a are one register");
        return false;
    }
    if (!op->u.rope.inv_freq || op->u.rope.n_rot == 0 || op->u.rope.n_rot % 2 ||
        op->u.rope.n_rot > op->u.rope.head_dim ||
        !mlxr_mul_size(&width, op->u.rope.n_heads, op->u.rope.head_dim)) {
        bad_op(b, op, "n_rot is odd, 0 or above head_dim, or there are no frequencies");
        return false;
    }
    return check_reg(b, op, "a", op->a, width, true);
}

/* The slot is of this kind, and its state moves on once a step: no other operation has it, an ATTEND that only
 * looks apart. */
static bool check_slot(mlxr_builder *b, const mlxr_op *op, mlxr_slot_id slot, mlxr_slot_kind kind,
                       bool only_looks)
{
    bool appended = false;

    if (slot >= b->p->n_slots || b->p->slots[slot].kind != kind) {
        bad_op(b, op, "slot is not a slot of the operation's kind");
        return false;
    }
    for (size_t i = 0; i < b->p->n_ops; i++)
        if (mlxr_op_slot(&b->p->ops[i]) == slot) appended = true;
    if (appended != only_looks) {
        bad_op(b, op,
               appended ? "another operation appends to the same slot" : "nothing was appended to the slot");
        return false;
    }
    return true;
}

static bool check_attend(mlxr_builder *b, const mlxr_op *op)
{
    bool only_looks = op->b == MLXR_NONE && op->c == MLXR_NONE;
    size_t n_heads = op->u.attend.n_heads, q_width, out_width;
    const mlxr_slot *s;

    if (!check_slot(b, op, op->u.attend.slot, MLXR_SLOT_KV, only_looks)) return false;
    s = &b->p->slots[op->u.attend.slot];
    if (n_heads == 0 || n_heads % s->n_kv_heads) {
        bad_op(b, op, "n_heads is not a multiple of the slot's n_kv_heads");
        return false;
    }
    if (op->dst == op->a || op->dst == op->b || op->dst == op->c) {
        bad_op(b, op, "dst is one of the inputs");
        return false;
    }
    if (!mlxr_mul_size(&q_width, n_heads, s->k_head_dim) ||
        !mlxr_mul_size(&out_width, n_heads, s->v_head_dim)) {
        bad_op(b, op, "too many heads");
        return false;
    }
    if (!(op->u.attend.softcap >= 0) || !isfinite(op->u.attend.softcap) || !isfinite(op->u.attend.scale) ||
        !isfinite(op->u.attend.position_beta)) {
        bad_op(b, op, "a factor is not a number");
        return false;
    }
    return check_reg(b, op, "a", op->a, q_width, true) &&
           (only_looks || (check_reg(b, op, "b", op->b, s->n_kv_heads * s->k_head_dim, true) &&
                           check_reg(b, op, "c", op->c, s->n_kv_heads * s->v_head_dim, true))) &&
           check_vector(b, op, "weight", op->weight, n_heads) &&
           check_reg(b, op, "dst", op->dst, out_width, false);
}

static bool check_norm(mlxr_builder *b, const mlxr_op *op)
{
    size_t width = b->p->regs[op->dst].width, n_weights = op->u.norm.width;

    if (op->u.norm.width == 0 || width % op->u.norm.width || !(op->u.norm.eps >= 0)) {
        bad_op(b, op, "eps is below 0, or the width does not divide the register's");
        return false;
    }
    if (op->kind == MLXR_OP_LAYER_NORM && op->weight == MLXR_NONE) {
        bad_op(b, op, "has no weight");
        return false;
    }
    if (op->weight < b->p->n_weights && b->p->weights[op->weight].n_cols == width) n_weights = width;
    return check_reg(b, op, "a", op->a, width, true) &&
           check_vector(b, op, "weight", op->weight, n_weights) &&
           check_vector(b, op, "bias", op->bias, n_weights);
}

static bool check_act_mul(mlxr_builder *b, const mlxr_op *op)
{
    size_t width = b->p->regs[op->dst].width;
    bool wide = op->a < b->p->n_regs && b->p->regs[op->a].width == width;

    if (op->u.act.act == MLXR_ACT_SWIGLU_OAI && op->b == MLXR_NONE) {
        bad_op(b, op, "swiglu_oai has no b");
        return false;
    }
    if (op->b == MLXR_NONE) return check_reg(b, op, "a", op->a, width, true);
    /* One value a token times a whole row: the row's register may be dst, the value's not. */
    return check_reg(b, op, "a", op->a, wide ? width : 1, true) && check_reg(b, op, "b", op->b, width, true);
}

static bool check_slice(mlxr_builder *b, const mlxr_op *op)
{
    size_t width = b->p->regs[op->dst].width, run = op->u.slice.run, last;

    if (!check_reg(b, op, "a", op->a, 0, true)) return false;
    if (op->dst == op->a) {
        bad_op(b, op, "dst is the input");
        return false;
    }
    if (run == 0 || width % run || !mlxr_mul_size(&last, width / run - 1, op->u.slice.step) ||
        !mlxr_add_size(&last, last, op->u.slice.first) || !mlxr_add_size(&last, last, run) ||
        last > b->p->regs[op->a].width) {
        bad_op(b, op, "the runs do not lie within a, or do not fill dst");
        return false;
    }
    return true;
}

static bool check_route(mlxr_builder *b, const mlxr_op *op)
{
    size_t k = op->u.route.k, n_experts;

    if (!check_reg(b, op, "a", op->a, 0, true)) return false;
    n_experts = b->p->regs[op->a].width;
    if (k == 0 || k > n_experts || n_experts > MAX_EXPERTS || op->dst == op->a ||
        !isfinite(op->u.route.scale)) {
        bad_op(b, op, "k is not from 1 to the number of experts");
        return false;
    }
    return check_reg(b, op, "dst", op->dst, 2 * k, false) &&
           check_vector(b, op, "weight", op->weight, n_experts);
}

static bool check_experts(mlxr_builder *b, const mlxr_op *op)
{
    size_t width = b->p->regs[op->dst].width, F = op->u.experts.width, n_experts, gate_rows;
    bool apart = op->u.experts.gate_up == MLXR_GATE_UP_APART;

    if (!check_reg(b, op, "a", op->a, 0, true)) return false;
    if (op->u.experts.gate >= b->p->n_weights || F == 0 || F > MAX_WIDTH || op->u.experts.k == 0 ||
        op->dst == op->a || op->dst == op->b) {
        bad_op(b, op, "gate is not a weight, or dst an input, or a width is 0");
        return false;
    }
    n_experts = b->p->weights[op->u.experts.gate].n_experts;
    gate_rows = apart ? F : 2 * F;
    if (op->u.experts.k > n_experts || n_experts == 0) {
        bad_op(b, op, "k is above the number of experts");
        return false;
    }
    return check_reg(b, op, "b", op->b, 2 * op->u.experts.k, true) &&
           check_stack(b, op, "gate", op->u.experts.gate, n_experts, gate_rows, b->p->regs[op->a].width) &&
           (!apart || check_stack(b, op, "up", op->u.experts.up, n_experts, F, b->p->regs[op->a].width)) &&
           check_stack(b, op, "down", op->u.experts.down, n_experts, width, F) &&
           (op->u.experts.gate_bias == MLXR_NONE ||
            check_weight(b, op, "gate_bias", op->u.experts.gate_bias, n_experts, gate_rows, false)) &&
           (op->u.experts.up_bias == MLXR_NONE ||
            check_weight(b, op, "up_bias", op->u.experts.up_bias, n_experts, F, false)) &&
           (op->u.experts.down_bias == MLXR_NONE ||
            check_weight(b, op, "down_bias", op->u.experts.down_bias, n_experts, width, false));
}

static bool check_conv(mlxr_builder *b, const mlxr_op *op)
{
    size_t width = b->p->regs[op->dst].width;
    const mlxr_slot *s;

    if (!check_slot(b, op, op->u.conv.slot, MLXR_SLOT_CONV, false)) return false;
    s = &b->p->slots[op->u.conv.slot];
    if (op->dst == op->a || s->n_channels != width || op->u.conv.act == MLXR_ACT_SWIGLU_OAI) {
        bad_op(b, op, "dst is the input, or the slot has not its channels");
        return false;
    }
    return check_reg(b, op, "a", op->a, width, true) &&
           check_weight(b, op, "weight", op->weight, width, s->n_taps + 1, false) &&
           check_vector(b, op, "bias", op->bias, width);
}

static bool check_delta(mlxr_builder *b, const mlxr_op *op)
{
    size_t n_heads, n_k_heads = op->u.delta.n_k_heads;
    const mlxr_slot *s;

    if (!check_slot(b, op, op->u.delta.slot, MLXR_SLOT_DELTA, false)) return false;
    s = &b->p->slots[op->u.delta.slot];
    n_heads = s->n_kv_heads;
    if (n_k_heads == 0 || n_heads % n_k_heads || op->dst == op->a || op->dst == op->b || op->dst == op->c) {
        bad_op(b, op, "dst is an input, or the slot's heads are not a multiple of n_k_heads");
        return false;
    }
    return check_reg(b, op, "a", op->a, n_k_heads * s->k_head_dim, true) &&
           check_reg(b, op, "b", op->b, n_k_heads * s->k_head_dim, true) &&
           check_reg(b, op, "c", op->c, n_heads * s->v_head_dim, true) &&
           check_reg(b, op, "d", op->d, n_heads, true) && check_reg(b, op, "e", op->e, n_heads, true) &&
           check_weight(b, op, "weight", op->weight, 1, n_heads, true) &&
           check_weight(b, op, "bias", op->bias, 1, n_heads, true) &&
           check_reg(b, op, "dst", op->dst, n_heads * s->v_head_dim, false);
}

static bool check_op(mlxr_builder *b, const mlxr_op *op)
{
    const mlxr_program *p = b->p;
    size_t width;

    if (!check_reg(b, op, "dst", op->dst, 0, false)) return false;
    width = p->regs[op->dst].width;
    switch (op->kind) {
    case MLXR_OP_EMBED:
        if (op->weight >= p->n_weights || !isfinite(op->u.embed.scale)) break;
        return check_weight(b, op, "weight", op->weight, p->weights[op->weight].n_rows, width, false);
    case MLXR_OP_LINEAR:
        if (!check_reg(b, op, "a", op->a, 0, true)) return false;
        if (op->dst == op->a) {
            bad_op(b, op, "dst is the input");
            return false;
        }
        return check_weight(b, op, "weight", op->weight, width, p->regs[op->a].width, false) &&
               check_vector(b, op, "bias", op->bias, width);
    case MLXR_OP_RMS_NORM:
    case MLXR_OP_LAYER_NORM: return check_norm(b, op);
    case MLXR_OP_ROPE: return check_rope(b, op);
    case MLXR_OP_ATTEND: return check_attend(b, op);
    case MLXR_OP_ACT_MUL: return check_act_mul(b, op);
    case MLXR_OP_ADD:
        return check_reg(b, op, "a", op->a, width, true) && check_reg(b, op, "b", op->b, width, true);
    case MLXR_OP_SCALE:
        if (!isfinite(op->u.scale.factor)) break;
        return check_reg(b, op, "a", op->a, width, true) && check_vector(b, op, "weight", op->weight, 1);
    case MLXR_OP_SOFTCAP:
        if (!isfinite(op->u.softcap.cap) || !(op->u.softcap.cap > 0)) break;
        return check_reg(b, op, "a", op->a, width, true);
    case MLXR_OP_SLICE: return check_slice(b, op);
    case MLXR_OP_ROUTE: return check_route(b, op);
    case MLXR_OP_EXPERTS: return check_experts(b, op);
    case MLXR_OP_SHORT_CONV: return check_conv(b, op);
    case MLXR_OP_GATED_DELTA: return check_delta(b, op);
    case MLXR_OP_COUNT: break;
    }
    bad_op(b, op, "a field is out of its range");
    return false;
}

void mlxr_build_op(mlxr_builder *b, const mlxr_op *op)
{
    mlxr_program *p = b->p;

    if (failed(b) || !check_op(b, op)) return;
    if (!grow(b, &p->ops, &b->cap_ops, p->n_ops, sizeof *p->ops)) return;
    p->ops[p->n_ops++] = *op;
    b->written[op->dst] = true;
}

void mlxr_build_hidden(mlxr_builder *b, mlxr_reg_id hidden)
{
    const mlxr_program *p = b->p;

    if (failed(b)) return;
    if (b->n_ops_hidden || p->n_ops == 0 || p->ops[p->n_ops - 1].dst != hidden ||
        mlxr_op_mixes_tokens(p->ops[p->n_ops - 1].kind)) {
        mlxr_fail(
            &b->err, MLXR_E_INTERNAL,
            "model program: the final hidden state is not what the operation before, on single rows, wrote");
        return;
    }
    b->hidden = hidden;
    b->n_ops_hidden = p->n_ops;
}

/* ---- finish ---- */

/* Devices stop at the hidden state when it alone is wanted: nothing behind it may be needed by later tokens. */
static bool hidden_in_tail(const mlxr_builder *b, size_t hidden_size)
{
    const mlxr_program *p = b->p;

    for (size_t i = b->n_ops_hidden; i < p->n_ops; i++)
        if (mlxr_op_mixes_tokens(p->ops[i].kind)) return false;
    return p->regs[b->hidden].width == hidden_size;
}

/* A copy in the arena; NULL when out of memory. */
static void *settle(mlxr_arena *arena, const void *array, size_t n, size_t size)
{
    void *copy = mlxr_arena_calloc(arena, n, size);

    if (copy && n) memcpy(copy, array, n * size);
    return copy;
}

/* Devices run what follows the last operation that mixes tokens for the wanted rows alone, so the logits must be made
 * there. */
static bool logits_in_tail(const mlxr_program *p, mlxr_reg_id logits)
{
    bool used = false;

    for (size_t i = 0; i < p->n_ops; i++) {
        const mlxr_op *op = &p->ops[i];
        mlxr_reg_id regs[MLXR_OP_MAX_INPUTS];
        size_t n = mlxr_op_inputs(op, regs);
        used |= op->dst == logits;
        for (size_t j = 0; j < n; j++) used |= regs[j] == logits;
        if (mlxr_op_mixes_tokens(op->kind) && used) return false;
    }
    return used;
}

mlxr_status mlxr_builder_finish(mlxr_program **out, mlxr_builder *b, size_t hidden_size, size_t vocab_size,
                                size_t n_layers, size_t context_length, mlxr_reg_id logits, mlxr_error *err)
{
    mlxr_program *p = b->p;
    mlxr_program moved;

    *out = NULL;
    if (!failed(b) && (logits >= p->n_regs || p->regs[logits].width != vocab_size || !b->written[logits] ||
                       !logits_in_tail(p, logits)))
        mlxr_fail(
            &b->err, MLXR_E_INTERNAL,
            "model program: the logits are not a register of width %zu written after the last operation that "
            "mixes tokens",
            vocab_size);
    if (!failed(b) && b->n_ops_hidden && !hidden_in_tail(b, hidden_size))
        mlxr_fail(
            &b->err, MLXR_E_INTERNAL,
            "model program: the final hidden state is not a register of width %zu written after the last "
            "operation that mixes tokens",
            hidden_size);
    for (size_t i = 0; i < p->n_ops && !failed(b); i++)
        if (p->ops[i].kind == MLXR_OP_EMBED && p->weights[p->ops[i].weight].n_rows < vocab_size)
            mlxr_fail(&b->err, MLXR_E_INTERNAL,
                      "model program: EMBED reads a table of %zu rows, wanted %zu or more",
                      p->weights[p->ops[i].weight].n_rows, vocab_size);
    moved = *p;
    if (!failed(b)) {
        moved.regs = settle(&p->arena, p->regs, p->n_regs, sizeof *p->regs);
        moved.weights = settle(&p->arena, p->weights, p->n_weights, sizeof *p->weights);
        moved.slots = settle(&p->arena, p->slots, p->n_slots, sizeof *p->slots);
        moved.ops = settle(&p->arena, p->ops, p->n_ops, sizeof *p->ops);
        if (!moved.regs || !moved.weights || !moved.slots || !moved.ops) out_of_memory(b);
    }
    if (failed(b)) {
        if (err) *err = b->err;
        return b->err.code;
    }
    free(p->regs);
    free(p->weights);
    free(p->slots);
    free(p->ops);
    moved.arena = p->arena;
    moved.hidden_size = hidden_size;
    moved.vocab_size = vocab_size;
    moved.n_layers = n_layers;
    moved.context_length = context_length;
    moved.logits = logits;
    moved.hidden = b->n_ops_hidden ? b->hidden : MLXR_NONE;
    moved.n_ops_hidden = b->n_ops_hidden;
    *p = moved;
    *out = p;
    b->p = NULL;
    return MLXR_OK;
}
