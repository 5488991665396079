/* doctor: findings, one a line. What is wrong is collected to the end; a part that cannot be looked at because another is
 * broken says so. */
#ifndef MLXCTL_DOCTOR_H
#define MLXCTL_DOCTOR_H

#include "format/format.h"
#include "report.h"

typedef enum doctor_level { DOCTOR_OK, DOCTOR_WARN, DOCTOR_ERROR } doctor_level;

/* Findings beyond this many are counted and not told: a hostile folder may have any number. */
enum { DOCTOR_MAX_FINDINGS = 500 };

typedef struct doctor {
    mlxr_buf text;
    report_json json; /* root: a list of {"level", "part", "text"} */
    size_t n[3];      /* by level */
} doctor;

/* part: what it is about ("config.json"); the text is cleaned for terminals. */
void doctor_say(doctor *d, doctor_level level, const char *part, const char *fmt, ...) MLXR_PRINTF(4, 5);
/* What the library said of it. */
void doctor_message(doctor *d, doctor_level level, const char *part, const mlxr_error *err);

/* Names in a list that may be long: the first few, and how many more. init to {0}. */
typedef struct doctor_names {
    mlxr_buf text;
    size_t n;
} doctor_names;
void doctor_names_add(doctor_names *l, const char *name);
/* "a, b and 7 more"; borrowed until the next call on it. */
const char *doctor_names_text(doctor_names *l);
void doctor_names_clear(doctor_names *l);

/* ---- the machine (doctor_machine.c) ---- */
void doctor_machine(doctor *d);
/* Its models, leftovers, room (doctor_store.c). */
void doctor_store(doctor *d);

/* ---- a model folder ---- */

/* The weights' files as far as they are usable (doctor_files.c). */
typedef struct doctor_weights {
    mlxr_checkpoint *checkpoint; /* of the files that are whole; NULL: none is, or they do not go together */
    size_t n_broken;             /* files that are wanted and missing or broken */
} doctor_weights;

/* Every file of the folder, then the weights' headers and their index. Clear *out. */
void doctor_files(doctor *d, doctor_weights *out, const char *dir);
void doctor_weights_clear(doctor_weights *w);
/* config.json, its program, the weights against it, tokenizer, templates, generation (doctor_model.c). */
void doctor_model(doctor *d, const doctor_weights *w, const char *dir);

#endif
