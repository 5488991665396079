/* The table of html_entities.c. */
#ifndef MLXR_HTML_ENTITIES_H
#define MLXR_HTML_ENTITIES_H

#include <stddef.h>
#include <stdint.h>

typedef struct html_entity {
    const char *name; /* with the ";", where the standard wants one */
    uint32_t cp[2];   /* the second: 0 when there is one character */
} html_entity;

extern const html_entity html_entities[];
extern const size_t n_html_entities;

#endif
