/* What the sources name of jansson: declared, never linked. */
#ifndef STAND_IN_JANSSON_H
#define STAND_IN_JANSSON_H

#include <stddef.h>
#include <stdint.h>

typedef struct json_t json_t;
typedef long long json_int_t;

void *json_object_iter(json_t *object);
void *json_object_iter_next(json_t *object, void *it);
json_t *json_object_iter_value(void *it);
json_t *json_object_get(const json_t *object, const char *key);
json_t *json_array_get(const json_t *array, size_t i);
size_t json_array_size(const json_t *array);
double json_number_value(const json_t *v);
int json_is_object(const json_t *v);
int json_is_array(const json_t *v);
int json_is_number(const json_t *v);
int json_is_null(const json_t *v);

#endif
