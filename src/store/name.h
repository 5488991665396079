/* name: "[host/][namespace/]name[:tag]", and where a name lies in the store.
 *
 * The first part is a host when it has a dot or a colon or is "localhost", and another part follows. Without one the host is
 * MLXR_NAME_HOST; "hf.co" is another word for it. Without a namespace it is MLXR_NAME_NAMESPACE at that host, and none at all at
 * others; a namespace may have several parts. Without a tag it is "latest".
 *
 *   llama                          huggingface.co / library / llama : latest
 *   mlx-community/Qwen3-4B-4bit    huggingface.co / mlx-community / Qwen3-4B-4bit : latest
 *   localhost:5000/team/x/llama:8b localhost:5000 / team/x / llama : 8b
 *
 * Parts of names: a letter, digit or "_", then those and "-", "."; at most 128 bytes each; hosts with their port and namespaces as a whole
 * 255, since each is one folder of the store. Hosts (an IPv6 address stands in brackets) are kept in lower case. No name reads like a digest:
 * "sha256:" with 8 hex digits or more. */
#ifndef MLXR_STORE_NAME_H
#define MLXR_STORE_NAME_H

#include "base/base.h"

#define MLXR_NAME_HOST      "huggingface.co"
#define MLXR_NAME_NAMESPACE "library"
#define MLXR_NAME_TAG       "latest"

/* Zeros after each text, so that memcmp tells whether two are spelled alike. */
typedef struct mlxr_name {
    char host[256], namespace_[516], name[129], tag[129]; /* namespace_: "" or parts with "/" between them */
} mlxr_name;

/* MLXR_E_INVALID_ARGUMENT says what is wrong with the text. */
mlxr_status mlxr_name_parse(mlxr_name *out, const char *text, mlxr_error *err);
/* Without the default host and its default namespace, always with the tag. */
void mlxr_name_display(mlxr_buf *out, const mlxr_name *name);
/* With everything: "huggingface.co/library/llama:latest". */
void mlxr_name_full(mlxr_buf *out, const mlxr_name *name);
/* Equal without regard to the case of letters. */
bool mlxr_name_same(const mlxr_name *a, const mlxr_name *b);
/* "namespace/name", as a hub's repository and a registry's are called. */
void mlxr_name_repository(mlxr_buf *out, const mlxr_name *name);
bool mlxr_name_is_hub(
    const mlxr_name *name); /* the host is MLXR_NAME_HOST: Hugging Face's protocol, not OCI's */

/* The path under manifests/: host/namespace/name/tag. "/" within a namespace is "+" there, and no namespace is "-": neither can
 * begin a part, so that paths and names are one to one. */
void mlxr_name_path(mlxr_buf *out, const mlxr_name *name);
/* Back from such a path; false: it is none. */
bool mlxr_name_from_path(mlxr_name *out, const char *path);

/* "sha256:" and 64 lower-case hex digits. */
bool mlxr_digest_valid(const char *digest);

#endif
