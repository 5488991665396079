/* mlxctl doctor [MODEL]: what is wrong here, or with a model folder, all at once. */
#include <stdio.h>
#include <stdlib.h>

#include "doctor.h"
#include "mlxctl.h"

static const char *const level_names[] = {"ok", "warn", "error"};

void doctor_say(doctor *d, doctor_level level, const char *part, const char *fmt, ...)
{
    char text[4600];
    va_list ap;
    json_t *o;

    if (d->n[DOCTOR_OK] + d->n[DOCTOR_WARN] + d->n[DOCTOR_ERROR] >= DOCTOR_MAX_FINDINGS) {
        d->n[level]++;
        return;
    }
    d->n[level]++;
    va_start(ap, fmt);
    if (vsnprintf(text, sizeof text, fmt, ap) < 0) text[0] = '\0';
    va_end(ap);
    mlxr_buf_printf(&d->text, "%-5s  ", level_names[level]);
    report_clean(&d->text, part);
    mlxr_buf_str(&d->text, ": ");
    report_clean(&d->text, text);
    mlxr_buf_char(&d->text, '\n');
    o = report_add(&d->json, d->json.root, json_object());
    report_put(&d->json, o, "level", json_string(level_names[level]));
    report_put(&d->json, o, "part", report_string(part));
    report_put(&d->json, o, "text", report_string(text));
}

/* Messages often begin with the path of the part, which the line has already. */
void doctor_message(doctor *d, doctor_level level, const char *part, const mlxr_error *err)
{
    size_t n = strlen(part);
    const char *at = strstr(err->message, part);

    if (at && (at == err->message || at[-1] == '/') && strncmp(at + n, ": ", 2) == 0)
        doctor_say(d, level, part, "%s", at + n + 2);
    else
        doctor_say(d, level, part, "%s", err->message);
}

/* ---- names ---- */

enum { MAX_NAMED = 8 };

void doctor_names_add(doctor_names *l, const char *name)
{
    if (l->n++ >= MAX_NAMED) return;
    mlxr_buf_printf(&l->text, "%s%.200s", l->n > 1 ? ", " : "", name);
}

const char *doctor_names_text(doctor_names *l)
{
    if (l->n > MAX_NAMED) mlxr_buf_printf(&l->text, " and %zu more", l->n - MAX_NAMED);
    return l->text.data && !l->text.failed ? l->text.data : "(out of memory)";
}

void doctor_names_clear(doctor_names *l)
{
    mlxr_buf_clear(&l->text);
    *l = (doctor_names){0};
}

/* ---- the command ---- */

static mlxr_status print(doctor *d, bool json, mlxr_error *err)
{
    size_t n = d->n[DOCTOR_OK] + d->n[DOCTOR_WARN] + d->n[DOCTOR_ERROR];
    size_t n_untold = n > DOCTOR_MAX_FINDINGS ? n - DOCTOR_MAX_FINDINGS : 0;
    report_json r = {.root = json_object(), .failed = d->json.failed};
    mlxr_status st;

    if (json) {
        report_put_count(&r, r.root, "errors", d->n[DOCTOR_ERROR]);
        report_put_count(&r, r.root, "warnings", d->n[DOCTOR_WARN]);
        report_put_count(&r, r.root, "untold", n_untold);
        report_put(&r, r.root, "findings", json_incref(d->json.root));
        st = report_write_json(&r, err);
    } else {
        if (n_untold) mlxr_buf_printf(&d->text, "... and %zu more findings\n", n_untold);
        mlxr_buf_printf(&d->text, "%zu error%s, %zu warning%s\n", d->n[DOCTOR_ERROR],
                        d->n[DOCTOR_ERROR] == 1 ? "" : "s", d->n[DOCTOR_WARN],
                        d->n[DOCTOR_WARN] == 1 ? "" : "s");
        st = report_write_text(&d->text, err);
    }
    json_decref(r.root);
    return st;
}

int cmd_doctor(int argc, char **argv)
{
    bool json = false;
    const char *model_paths = NULL, *args[1];
    const struct cli_option options[] = {
        {"json", CLI_FLAG, NULL, &json, 0, 0, "as one JSON object: errors, warnings, findings"},
        {"model-paths-json", CLI_STRING, "FILE", &model_paths, 0, 0, "where model ids are looked up"},
    };
    static const struct cli_exit exits[] = {{0, "no error is among the findings"}, {1, "there is one"}};
    static const struct cli_example examples[] = {
        {"mlxctl doctor", "this machine: devices, memory, store, disk", NULL},
        {"mlxctl doctor SmolLM2-135M-Instruct-4bit", "a model folder", NULL},
    };
    const struct cli cli = {
        .program = "mlxctl doctor",
        .synopsis = "[MODEL] [--json]",
        .summary =
            "What is wrong with a model folder, everything at once; without MODEL, with this machine:\n"
            "devices, memory, cache, disk, the store. A line a finding: ok, warn or error.",
        .options = options,
        .n_options = MLXR_COUNT(options),
        .examples = examples,
        .n_examples = MLXR_COUNT(examples),
        .exits = exits,
        .n_exits = MLXR_COUNT(exits),
        .arguments = "model",
    };
    doctor d = {.json = {.root = json_array()}};
    doctor_weights weights = {0};
    char *dir = NULL;
    mlxr_error err = {0};
    mlxr_status st = MLXR_OK;
    size_t n_args;
    int code;

    if (!cli_parse(&cli, argc, argv, args, 1, &n_args, &code)) {
        json_decref(d.json.root);
        return code;
    }
    if (n_args == 0) {
        doctor_machine(&d);
    } else if ((st = cli_model_dir(&dir, args[0], model_paths, &err)) == MLXR_OK) {
        doctor_files(&d, &weights, dir);
        doctor_model(&d, &weights, dir);
    }
    if (st == MLXR_OK) st = print(&d, json, &err);
    code = st != MLXR_OK ? cli_fail(cli.program, &err) : d.n[DOCTOR_ERROR] ? CLI_EXIT_FAILED : 0;
    doctor_weights_clear(&weights);
    mlxr_buf_clear(&d.text);
    json_decref(d.json.root);
    free(dir);
    return code;
}
