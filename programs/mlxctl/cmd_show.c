/* mlxctl show MODEL: what a model folder holds and takes, without reading its weights. Gathers; show_text.c and
 * show_json.c print. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/scheduler.h"
#include "mlxctl.h"
#include "runner/generation.h"
#include "runner/prompt.h"
#include "show.h"

/* ---- bindings ---- */

static int by_data(const void *a, const void *b)
{
    const show_binding *x = a, *y = b;
    return x->data == y->data ? 0 : (uintptr_t)x->data < (uintptr_t)y->data ? -1 : 1;
}

static size_t add_matrix(show_binding *b, size_t n, const mlxr_matrix *m, size_t i_weight, size_t i_expert)
{
    b[n++] = (show_binding){m->data, i_weight, "weight", i_expert};
    if (m->scales) b[n++] = (show_binding){m->scales, i_weight, "scales", i_expert};
    if (m->biases) b[n++] = (show_binding){m->biases, i_weight, "biases", i_expert};
    return n;
}

mlxr_status show_bindings(show_binding **out, size_t *out_n, const mlxr_program *p, mlxr_error *err)
{
    size_t n = 0, n_most = 0;
    show_binding *b;

    *out = NULL;
    for (size_t i = 0; i < p->n_weights; i++) n_most += p->weights[i].n_experts ? p->weights[i].n_experts : 1;
    b = mlxr_malloc_array(n_most, 3 * sizeof *b);
    if (!b) return mlxr_fail_nomem(err, "show");
    for (size_t i = 0; i < p->n_weights; i++) {
        const mlxr_weight *w = &p->weights[i];
        bool apart = strstr(w->name, "{expert}") != NULL;
        if (!apart)
            n = add_matrix(b, n, &w->m, i, SIZE_MAX);
        else
            for (size_t k = 0; k < w->n_experts; k++) n = add_matrix(b, n, &w->experts[k], i, k);
    }
    if (n) qsort(b, n, sizeof *b, by_data);
    *out = b;
    *out_n = n;
    return MLXR_OK;
}

const show_binding *show_find_binding(const show_binding *b, size_t n, const mlxr_tensor *t)
{
    show_binding key = {.data = t->data};

    if (t->n_bytes == 0 || n == 0) return NULL; /* an empty tensor lies where the next one does */
    return bsearch(&key, b, n, sizeof *b, by_data);
}

/* ---- memory ---- */

/* The device compiles the program and tells the size of its blocks: neither keys and values nor weights are touched. A device
 * that refuses the program leaves the plain layout. */
static mlxr_status plan_memory(show *s, mlxr_error *err)
{
    mlxr_device_options options = {.n_threads = 1,
                                   .isa = cli_isa(),
                                   .mlx_library = cli_mlx_library(),
                                   .precision = MLXR_PRECISION_DEFAULT};
    mlxr_device *device = NULL;
    mlxr_executable *executable = NULL;
    mlxr_status st;

    if ((st = mlxr_device_open(&device, s->device, &options, err)) != MLXR_OK) return st;
    st = mlxr_device_compile(&executable, device, s->program, &s->refused);
    s->compiled = st == MLXR_OK;
    if (st == MLXR_E_NOMEM && err) *err = s->refused;
    if (st != MLXR_E_NOMEM)
        st = mlxr_memory_plan(&s->memory, s->program, executable, s->summary.n_weight_bytes, &s->request,
                              err);
    mlxr_executable_free(executable);
    mlxr_device_close(device);
    return st;
}

/* ---- text ---- */

static mlxr_status read_template(show *s, mlxr_error *err)
{
    mlxr_status st = mlxr_chat_template_open(&s->chat, s->dir, &s->no_template);
    size_t n;

    if (st == MLXR_E_NOT_FOUND && s->tok) {
        s->builtin_template = true;
        st = mlxr_chat_template_open_with(&s->chat, s->dir, mlxr_prompt_llama_source(s->tok),
                                          &s->no_template);
    }
    if (st != MLXR_OK) return st == MLXR_E_NOMEM ? mlxr_fail_nomem(err, "chat template") : MLXR_OK;
    n = mlxr_chat_template_count(s->chat);
    s->capabilities = mlxr_calloc_array(n, sizeof *s->capabilities);
    if (!s->capabilities) return mlxr_fail_nomem(err, "chat template");
    for (size_t i = 0; i < n; i++) {
        st = mlxr_chat_template_capabilities(&s->capabilities[i], s->chat,
                                             mlxr_chat_template_name(s->chat, i), err);
        if (st != MLXR_OK) return st;
    }
    return MLXR_OK;
}

static mlxr_status read_text(show *s, mlxr_error *err)
{
    mlxr_status st = mlxr_tokenizer_open(&s->tok, s->dir, &s->no_tokenizer);

    if (st == MLXR_E_NOMEM) return mlxr_fail_nomem(err, "tokenizer");
    if (s->tok) {
        st = mlxr_eos_ids(&s->eos_ids, &s->n_eos, s->dir, mlxr_model_config(s->model), s->tok, &s->no_eos);
        if (st == MLXR_E_NOMEM) return mlxr_fail_nomem(err, "eos_token_id");
        if (st == MLXR_OK) s->no_eos.message[0] = '\0'; /* of files that need not be there */
    }
    return read_template(s, err);
}

static void show_clear(show *s)
{
    mlxr_buf_clear(&s->listing);
    free(s->eos_ids);
    free(s->capabilities);
    mlxr_chat_template_close(s->chat);
    mlxr_tokenizer_close(s->tok);
    mlxr_summary_clear(&s->summary);
    mlxr_model_close(s->model);
    free(s->dir);
}

int cmd_show(int argc, char **argv)
{
    show s = {.device = "cpu"};
    bool json = false;
    const char *model_paths = NULL, *args[1];
    int64_t context = 0, n_sequences = 1;
    const struct cli_option options[] = {
        {"context", CLI_INT, "N", &context, 1, INT32_MAX,
         "memory for so many positions (the model's context, at most 8192)"},
        {"sequences", CLI_INT, "N", &n_sequences, 1, 1 << 20, "... of so many sequences (1)"},
        {"device", CLI_STRING, "NAME", &s.device, 0, 0, "... on this device (cpu)"},
        {"program", CLI_FLAG, NULL, &s.with_program, 0, 0,
         "also the program: slots, registers, weights, operations"},
        {"tensors", CLI_FLAG, NULL, &s.with_tensors, 0, 0,
         "also every tensor: type, shape, file, bytes, the weight it is or \"ignored\""},
        {"json", CLI_FLAG, NULL, &json, 0, 0, "as one JSON object, with everything exact"},
        {"model-paths-json", CLI_STRING, "FILE", &model_paths, 0, 0, "where model ids are looked up"},
    };
    static const struct cli_example examples[] = {
        {"mlxctl show smollm2", "family, layers, weights, memory, template, tokenizer", NULL},
        {"mlxctl show smollm2 --context 512 --sequences 8", "the memory of eight conversations at a time",
         NULL},
        {"mlxctl show SmolLM2-135M-Instruct-4bit --json > smollm2.json",
         "everything, exact, of a model folder", NULL},
    };
    const struct cli cli = {
        .program = "mlxctl show",
        .synopsis = "MODEL [--context N] [--sequences N] [--device NAME] [--program] [--tensors] [--json]",
        .summary =
            "What a model folder holds: family, sizes, how each layer is stored, chat template, tokenizer;\n"
            "and the memory it takes for a context. No weight is read.",
        .options = options,
        .n_options = MLXR_COUNT(options),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .arguments = "model",
    };
    mlxr_error err = {0};
    mlxr_status st;
    size_t n_args;
    int code;

    if (!cli_parse(&cli, argc, argv, args, 1, &n_args, &code)) return code;
    if (n_args < 1) return cli_usage(&cli, "MODEL is needed");
    if ((st = cli_model_dir(&s.dir, args[0], model_paths, &err)) != MLXR_OK) goto done;
    if ((st = mlxr_model_open(&s.model, s.dir, &err)) != MLXR_OK) goto done;
    s.program = mlxr_model_program(s.model);
    if ((st = mlxr_summary_init(&s.summary, s.program, &err)) != MLXR_OK) goto done;
    if (context == 0)
        context = s.program->context_length < MLXR_DEFAULT_CONTEXT ? (int64_t)s.program->context_length
                                                                   : MLXR_DEFAULT_CONTEXT;
    s.request = mlxr_memory_request_default((size_t)context);
    s.request.n_sequences = (size_t)n_sequences;
    if ((st = plan_memory(&s, &err)) != MLXR_OK) goto done;
    if ((st = read_text(&s, &err)) != MLXR_OK) goto done;
    if (s.with_program) mlxr_program_print(s.program, &s.listing);
    if ((st = mlxr_buf_check(&s.listing, "show", &err)) != MLXR_OK) goto done;
    st = json ? show_print_json(&s, &err) : show_print_text(&s, &err);
done:
    show_clear(&s);
    return st == MLXR_OK ? 0 : cli_fail(cli.program, &err);
}
