/* show: what is gathered about a model folder before it is printed. */
#ifndef MLXCTL_SHOW_H
#define MLXCTL_SHOW_H

#include "device/memory.h"
#include "model/model.h"
#include "model/summary.h"
#include "report.h"
#include "text/capabilities.h"

typedef struct show {
    char *dir;
    mlxr_model *model;
    const mlxr_program *program; /* the model's */
    mlxr_summary summary;

    mlxr_memory_request request;
    mlxr_memory memory;
    const char *device;
    bool compiled; /* by the device; else memory is what `ref` takes, and refused says why */
    mlxr_error refused;

    /* A folder may lack these; then the error says what was looked for. */
    mlxr_tokenizer *tok;
    mlxr_error no_tokenizer;
    mlxr_chat_template *chat;
    bool builtin_template;
    mlxr_error no_template;
    mlxr_template_capabilities *capabilities; /* [mlxr_chat_template_count] */
    int32_t *eos_ids;
    size_t n_eos;
    mlxr_error no_eos; /* message "" : none was wrong */

    bool with_program, with_tensors;
    mlxr_buf listing; /* of the program */
} show;

/* Where a tensor of the checkpoint went. */
typedef struct show_binding {
    const void *data; /* the tensor's */
    size_t i_weight;
    const char *part; /* "weight", "scales", "biases" */
    size_t i_expert;  /* SIZE_MAX: no expert of its own */
} show_binding;
/* All of the program's, sorted by data; *out: free it. */
mlxr_status show_bindings(show_binding **out, size_t *out_n, const mlxr_program *p, mlxr_error *err);
/* NULL: the program does not use the tensor. */
const show_binding *show_find_binding(const show_binding *b, size_t n, const mlxr_tensor *t);

mlxr_status show_print_text(const show *s, mlxr_error *err);
mlxr_status show_print_json(const show *s, mlxr_error *err);

#endif
