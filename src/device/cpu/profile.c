/* Times by what a step does: the same step of every layer counts in one row. Off, a step costs one test of a pointer;
 * on, two looks at the clock. Bytes and operations come from the program (model/cost.h), not from the kernels. */
#include "device/cpu/cpu.h"
#include "model/cost.h"

typedef struct cpu_profile {
    mlxr_profile_row *rows;
    size_t n_rows;
    size_t *row_of;                                                     /* [n_steps] */
    uint32_t positions[MLXR_CPU_MAX_TOKENS], seqs[MLXR_CPU_MAX_TOKENS]; /* of the step's tokens */
} cpu_profile;

/* Appends what fits. */
static void append(char *name, size_t cap, const char *text, size_t n)
{
    size_t len = strlen(name);

    if (n > cap - 1 - len) n = cap - 1 - len;
    memcpy(name + len, text, n);
    name[len + n] = '\0';
}

/* "model.layers.3.self_attn.q_proj" is "q_proj" in every layer. */
static void append_weight(char *name, size_t cap, const mlxr_weight *w)
{
    const char *dot = strrchr(w->name, '.'), *last = dot ? dot + 1 : w->name;
    append(name, cap, last, strlen(last));
}

static void name_step(char *name, size_t cap, const cpu_executable *e, const cpu_step *step)
{
    const mlxr_program *p = e->base.program;

    name[0] = '\0';
    if (step->kind == CPU_LINEARS) append(name, cap, "LINEAR", 6);
    for (size_t i = 0; i < step->n; i++) {
        const cpu_op *c = &e->ops[step->first + i];
        const char *kind = c->part == CPU_STORE ? "store" : mlxr_op_name(c->op->kind);
        if (step->kind == CPU_LINEARS) {
            append(name, cap, i ? "," : " ", 1);
            append_weight(name, cap, &p->weights[c->op->weight]);
            continue;
        }
        if (i > 0 && c->op->kind == c[-1].op->kind && c->part == c[-1].part) continue;
        append(name, cap, " ", i > 0);
        append(name, cap, kind, strlen(kind));
        if (c->part == CPU_LOOK && p->slots[c->op->u.attend.slot].window) append(name, cap, " window", 7);
    }
}

bool mlxr_cpu_profile_create(cpu_executable *e)
{
    cpu_profile *f = mlxr_arena_calloc(&e->arena, 1, sizeof *f);

    if (!f) return false;
    f->rows = mlxr_arena_calloc(&e->arena, e->n_steps, sizeof *f->rows);
    f->row_of = mlxr_arena_calloc(&e->arena, e->n_steps, sizeof *f->row_of);
    if (!f->rows || !f->row_of) return false;
    for (size_t i = 0; i < e->n_steps; i++) {
        char name[sizeof f->rows->name];
        size_t r = 0;
        name_step(name, sizeof name, e, &e->steps[i]);
        while (r < f->n_rows && strcmp(f->rows[r].name, name) != 0) r++;
        if (r == f->n_rows) memcpy(f->rows[f->n_rows++].name, name, sizeof name);
        f->row_of[i] = r;
    }
    e->profile = f;
    return true;
}

void mlxr_cpu_profile_note(cpu_executable *e, size_t i_step, uint64_t ns, const cpu_noted *noted)
{
    cpu_profile *f = e->profile;
    mlxr_profile_row *row = &f->rows[f->row_of[i_step]];
    const cpu_step *step = &e->steps[i_step];
    double kv_numbers = mlxr_program_kv_numbers(e->base.program);
    mlxr_cost_batch batch = {
        .n_tokens = noted->n,
        .positions = f->positions,
        .seqs = f->seqs,
        .kv_bytes = kv_numbers > 0 ? (double)e->block_bytes / (MLXR_KV_BLOCK * kv_numbers) : 0,
    };
    mlxr_cost cost = {0};

    for (size_t i = 0; i < noted->n; i++) {
        f->positions[i] = noted->positions[noted->list[i]];
        f->seqs[i] = noted->seqs[noted->list[i]];
    }
    for (size_t i = 0; i < step->n; i++) {
        const cpu_op *c = &e->ops[step->first + i];
        if (c->part != CPU_STORE) mlxr_op_cost(&cost, e->base.program, c->op, &batch);
    }
    row->n_calls++;
    row->ns += ns;
    row->bytes += cost.weight_bytes + cost.state_bytes;
    row->flops += cost.flops;
}

mlxr_profile_row *mlxr_cpu_profile_rows(mlxr_executable *base, size_t *n_rows)
{
    cpu_profile *f = ((cpu_executable *)base)->profile;

    *n_rows = f ? f->n_rows : 0;
    return f ? f->rows : NULL;
}
