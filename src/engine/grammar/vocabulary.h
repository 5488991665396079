/* vocabulary: the tokens' bytes as a trie, and what is known of it before any grammar is. For vocabulary.c and mask.c.
 *
 * Nodes are in depth-first order: a node's subtree is the nodes behind it up to skip[node], so a walk reads the arrays from front
 * to back. Node 0 is the root. */
#ifndef MLXR_GRAMMAR_VOCABULARY_H
#define MLXR_GRAMMAR_VOCABULARY_H

#include "engine/grammar/machine.h"

#define GM_SEVERAL UINT32_MAX
enum { GM_NEAR = 16 }; /* masks of so many characters that are left are kept */

/* A node whose byte is a quote, behind characters of a JSON string. */
typedef struct gm_quote {
    uint32_t node, n_chars;
} gm_quote;

/* The inside of JSON strings, which nearly every grammar of JSON has somewhere: what a walk through the whole trie gives there. */
typedef struct gm_universe {
    mlxr_dfa *dfa;
    bool own;       /* to be freed as pieces.c's */
    uint32_t *stay; /* [n_words] between two characters: the tokens that stay inside */
    gm_quote *quotes;
    size_t n_quotes;
    /* Of those that stay: with at most i + 1 characters; and those with more than GM_NEAR, the longest first. */
    uint32_t *near[GM_NEAR];
    uint32_t *longer, *longer_chars;
    size_t n_longer;
} gm_universe;
/* With any escapes, as mlxr_gb_chars has them; with one way for each character, as mlxr_dfa_json_string writes them. The state 0 of
 * both is between two characters. */
enum { GM_ANY_ESCAPES, GM_ONE_ESCAPE, GM_UNIVERSES };

struct mlxr_vocabulary {
    size_t vocab_size, n_words; /* ids; words of a mask */
    uint32_t n_nodes, n_tokens;
    uint8_t *byte;   /* [n_nodes] that leads here */
    uint16_t *depth; /* [n_nodes] */
    uint32_t *skip;  /* [n_nodes] the node behind the subtree */
    uint32_t *first; /* [n_nodes + 1] of tokens: those that end here */
    int32_t *tokens; /* [n_tokens] ids */
    uint32_t
        *emits; /* [n_nodes] the bit of the token that ends there; none: one behind the mask; GM_SEVERAL */
    uint32_t *offset; /* [vocab_size + 1] of the bytes of an id; none: it is in no mask */
    uint8_t *bytes;
    size_t max_bytes; /* of a token */
    bool strips_first_space;
    uint32_t space; /* the root's child by a space, 0: none */
    gm_universe universe[GM_UNIVERSES];
};

static inline void gm_set_bit(uint32_t *mask, uint32_t id)
{
    mask[id >> 5] |= (uint32_t)1 << (id & 31);
}

static inline void gm_clear_bit(uint32_t *mask, uint32_t id)
{
    mask[id >> 5] &= ~((uint32_t)1 << (id & 31));
}

#endif
