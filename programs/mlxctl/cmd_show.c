/* mlxctl show MODEL [--program] [--json]
 *
 * What a model folder holds: family, sizes, quantization, files; with --program the program its family makes of it. */
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "mlxctl.h"
#include "model/model.h"

enum { MAX_KINDS = 32 };

/* One way of storing matrices, and how much is stored so. */
typedef struct kind {
    mlxr_quant quant;
    mlxr_dtype dtype;
    size_t n_matrices;
    uint64_t n_elements, n_bytes;
} kind;

typedef struct summary {
    uint64_t n_parameters, n_weight_bytes;
    size_t n_heads, n_kv_heads, head_dim, ffn_width; /* of the first layer that has them; else 0 */
    size_t n_windows;                                /* layers that see a window only */
    kind kinds[MAX_KINDS];
    size_t n_kinds;
} summary;

static void summarize(summary *s, const mlxr_program *p)
{
    for (size_t i = 0; i < p->n_slots; i++) s->n_windows += p->slots[i].window > 0;
    for (size_t i = 0; i < p->n_ops; i++) {
        const mlxr_op *op = &p->ops[i];
        if (op->kind == MLXR_OP_ATTEND && s->n_heads == 0) {
            s->n_heads = op->u.attend.n_heads;
            s->n_kv_heads = p->slots[op->u.attend.slot].n_kv_heads;
            s->head_dim = p->slots[op->u.attend.slot].k_head_dim;
        }
        if (op->kind == MLXR_OP_ACT_MUL && s->ffn_width == 0) s->ffn_width = p->regs[op->dst].width;
    }
    for (size_t i = 0; i < p->n_weights; i++) {
        const mlxr_weight *w = &p->weights[i];
        uint64_t n = (uint64_t)w->n_rows * w->n_cols;
        size_t k = 0;

        s->n_parameters += n;
        s->n_weight_bytes += mlxr_matrix_bytes(&w->m);
        if (w->is_vector) continue;
        while (k < s->n_kinds &&
               (s->kinds[k].dtype != w->m.dtype || s->kinds[k].quant.mode != w->m.quant.mode ||
                s->kinds[k].quant.bits != w->m.quant.bits ||
                s->kinds[k].quant.group_size != w->m.quant.group_size))
            k++;
        if (k == MAX_KINDS) k--;
        if (k == s->n_kinds) s->kinds[s->n_kinds++] = (kind){.quant = w->m.quant, .dtype = w->m.dtype};
        s->kinds[k].n_matrices++;
        s->kinds[k].n_elements += n;
        s->kinds[k].n_bytes += mlxr_matrix_bytes(&w->m);
    }
}

/* "affine 4-bit group 64 BF16" */
static const char *kind_name(char text[static 64], const kind *k)
{
    if (k->quant.mode == MLXR_QUANT_NONE)
        snprintf(text, 64, "%s", mlxr_dtype_name(k->dtype));
    else
        snprintf(text, 64, "%s %u-bit group %u %s", mlxr_quant_mode_name(k->quant.mode), k->quant.bits,
                 k->quant.group_size, mlxr_dtype_name(k->dtype));
    return text;
}

static void show_text(mlxr_buf *out, const char *path, const mlxr_model *m, const summary *s)
{
    const mlxr_program *p = mlxr_model_program(m);
    const mlxr_checkpoint *c = mlxr_model_checkpoint(m);
    char text[64];

    mlxr_buf_printf(out, "model          %s\n", path);
    mlxr_buf_printf(out, "family         %s\n", p->family);
    mlxr_buf_printf(out, "parameters     %llu\n", (unsigned long long)s->n_parameters);
    mlxr_buf_printf(out, "layers         %zu\n", p->n_layers);
    mlxr_buf_printf(out, "hidden size    %zu\n", p->hidden_size);
    mlxr_buf_printf(out, "feed-forward   %zu\n", s->ffn_width);
    mlxr_buf_printf(out, "heads          %zu of %zu, %zu of keys and values", s->n_heads, s->head_dim,
                    s->n_kv_heads);
    if (s->n_windows) mlxr_buf_printf(out, ", a window in %zu layers", s->n_windows);
    mlxr_buf_char(out, '\n');
    mlxr_buf_printf(out, "vocabulary     %zu\n", p->vocab_size);
    mlxr_buf_printf(out, "context        %zu\n", p->context_length);
    for (size_t i = 0; i < s->n_kinds; i++)
        mlxr_buf_printf(out, "%-15s%zu matri%s, %llu bytes: %s\n", i ? "" : "weights", s->kinds[i].n_matrices,
                        s->kinds[i].n_matrices == 1 ? "x" : "ces", (unsigned long long)s->kinds[i].n_bytes,
                        kind_name(text, &s->kinds[i]));
    mlxr_buf_printf(out, "bits a weight  %.2f\n", 8.0 * (double)s->n_weight_bytes / (double)s->n_parameters);
    mlxr_buf_printf(out, "tensors        %zu\n", mlxr_checkpoint_count(c));
    mlxr_buf_printf(out, "files          %llu bytes\n", (unsigned long long)mlxr_checkpoint_bytes(c));
}

static void show_json(mlxr_buf *out, const char *path, const mlxr_model *m, const summary *s,
                      const mlxr_buf *program)
{
    const mlxr_program *p = mlxr_model_program(m);
    const mlxr_checkpoint *c = mlxr_model_checkpoint(m);

    mlxr_buf_str(out, "{\"model\":");
    mlxr_json_escape(out, path, mlxr_utf8_valid(path, strlen(path)));
    mlxr_buf_str(out, ",\"family\":");
    mlxr_json_escape(out, p->family, strlen(p->family));
    mlxr_buf_printf(
        out, ",\"parameters\":%llu,\"num_hidden_layers\":%zu,\"hidden_size\":%zu,\"intermediate_size\":%zu,",
        (unsigned long long)s->n_parameters, p->n_layers, p->hidden_size, s->ffn_width);
    mlxr_buf_printf(out, "\"num_attention_heads\":%zu,\"num_key_value_heads\":%zu,\"head_dim\":%zu,",
                    s->n_heads, s->n_kv_heads, s->head_dim);
    mlxr_buf_printf(out, "\"vocab_size\":%zu,\"context_length\":%zu,", p->vocab_size, p->context_length);
    mlxr_buf_printf(out, "\"weight_bytes\":%llu,\"file_bytes\":%llu,\"tensors\":%zu,\"weights\":[",
                    (unsigned long long)s->n_weight_bytes, (unsigned long long)mlxr_checkpoint_bytes(c),
                    mlxr_checkpoint_count(c));
    for (size_t i = 0; i < s->n_kinds; i++) {
        const kind *k = &s->kinds[i];
        mlxr_buf_printf(out,
                        "%s{\"mode\":\"%s\",\"bits\":%u,\"group_size\":%u,\"dtype\":\"%s\",\"matrices\":%zu,",
                        i ? "," : "", mlxr_quant_mode_name(k->quant.mode),
                        k->quant.mode ? k->quant.bits : mlxr_dtype_bits(k->dtype), k->quant.group_size,
                        mlxr_dtype_name(k->dtype), k->n_matrices);
        mlxr_buf_printf(out, "\"parameters\":%llu,\"bytes\":%llu}", (unsigned long long)k->n_elements,
                        (unsigned long long)k->n_bytes);
    }
    mlxr_buf_char(out, ']');
    if (program->data) {
        mlxr_buf_str(out, ",\"program\":");
        mlxr_json_escape(out, program->data, program->len);
    }
    mlxr_buf_str(out, "}\n");
}

int cmd_show(int argc, char **argv)
{
    bool with_program = false, json = false;
    const char *model_paths = NULL, *args[1];
    const struct cli_option options[] = {
        {"program", CLI_FLAG, NULL, &with_program, 0, 0,
         "also the program: slots, registers, weights, operations"},
        {"json", CLI_FLAG, NULL, &json, 0, 0, "as one JSON object"},
        {"model-paths-json", CLI_STRING, "FILE", &model_paths, 0, 0, "where model ids are looked up"},
    };
    const struct cli cli = {
        .program = "mlxctl show",
        .synopsis = "MODEL [--program] [--json]",
        .summary = "What a model folder holds: family, sizes, quantization, files.",
        .options = options,
        .n_options = MLXR_COUNT(options),
    };
    char *dir = NULL;
    mlxr_model *m = NULL;
    mlxr_buf out = {0}, program = {0};
    summary s = {0};
    mlxr_error err = {0};
    mlxr_status st;
    size_t n_args;
    int code;

    if (!cli_parse(&cli, argc, argv, args, 1, &n_args, &code)) return code;
    if (n_args < 1) return cli_usage(&cli, "MODEL is needed");
    if ((st = cli_model_dir(&dir, args[0], model_paths, &err)) != MLXR_OK) goto done;
    if ((st = mlxr_model_open(&m, dir, &err)) != MLXR_OK) goto done;
    summarize(&s, mlxr_model_program(m));
    if (with_program) mlxr_program_print(mlxr_model_program(m), &program);
    if ((st = mlxr_buf_check(&program, "show", &err)) != MLXR_OK) goto done;
    if (json)
        show_json(&out, dir, m, &s, &program);
    else
        show_text(&out, dir, m, &s);
    if (!json && program.data) mlxr_buf_append(&out, program.data, program.len);
    if ((st = mlxr_buf_check(&out, "show", &err)) != MLXR_OK) goto done;
    if (fwrite(out.data, 1, out.len, stdout) != out.len || fflush(stdout) != 0)
        st = mlxr_fail(&err, MLXR_E_IO, "the answer could not be written");
done:
    mlxr_buf_clear(&program);
    mlxr_buf_clear(&out);
    mlxr_model_close(m);
    free(dir);
    return st == MLXR_OK ? 0 : cli_fail(cli.program, &err);
}
