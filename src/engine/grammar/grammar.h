/* grammar: what an answer may be, byte by byte, and which tokens that leaves at each step.
 *
 *   builder -> mlxr_grammar (immutable, shared) -> mlxr_masker (with a vocabulary; one thread) -> mlxr_matcher (one answer)
 *
 * A grammar is a set of rules. The body of a rule is a nondeterministic automaton whose edges are regular texts or calls of
 * rules, so rules may call each other and themselves: JSON nests. A matcher is a set of configurations, each a place in
 * a rule and a stack of places to return to; stacks share their tails. The places of one frame are determinised as they are met
 * (masker), and each determinised place remembers, for the whole vocabulary, which tokens stay inside it and which leave it.
 *
 * No dead ends: parts that can lead to no complete text are cut away when the grammar is made, so that whatever a matcher
 * allows can be completed.
 *
 * Bytes of tokens: the text that a token adds in the middle of an answer. A special token (one the answer's text does not show) has
 * the byte 0xFF and then its text ("\xff<|call|>"), so it fits where a grammar asks for it and nowhere in ordinary text. */
#ifndef MLXR_GRAMMAR_H
#define MLXR_GRAMMAR_H

#include "engine/grammar/lang.h"

/* ---- builder ----
 *
 * Expressions are numbers, made by the calls below and valid for one builder. A call that fails records the first failure
 * and returns MLXR_EXPR_NONE, which every call takes; mlxr_grammar_finish tells. One thread. */
typedef uint32_t mlxr_expr;
#define MLXR_EXPR_NONE UINT32_MAX
typedef struct mlxr_grammar_builder mlxr_grammar_builder;
typedef struct mlxr_grammar mlxr_grammar;

/* Bounds on a grammar and its use; a breach is MLXR_E_LIMIT that says which. */
typedef struct mlxr_grammar_limits {
    size_t max_nodes;          /* of all rules together, after repeats are written out; default 200,000 */
    size_t max_depth;          /* of the stack while matching; default 1,000 */
    size_t max_configurations; /* of one matcher; default 2,000 */
    size_t
        max_places; /* determinised places of one masker, before they are forgotten and made anew; default 50,000 */
    mlxr_lang_limits lang;
} mlxr_grammar_limits;
mlxr_grammar_limits mlxr_grammar_limits_default(void);

mlxr_status mlxr_grammar_builder_create(mlxr_grammar_builder **out, const mlxr_grammar_limits *limits,
                                        mlxr_error *err);
void mlxr_grammar_builder_free(mlxr_grammar_builder *b);
const mlxr_grammar_limits *mlxr_grammar_builder_limits(const mlxr_grammar_builder *b);
/* Records a failure of the caller's own, unless there is one already. */
void mlxr_gb_fail(mlxr_grammar_builder *b, mlxr_status st, const char *message);
bool mlxr_gb_failed(const mlxr_grammar_builder *b);

mlxr_expr mlxr_gb_empty(mlxr_grammar_builder *b); /* the text of no bytes */
mlxr_expr mlxr_gb_never(mlxr_grammar_builder *b); /* no text */
mlxr_expr mlxr_gb_text(mlxr_grammar_builder *b, const void *bytes, size_t n);
/* A text of the language; takes the reference, NULL records MLXR_E_NOMEM. Ends wherever it accepts. */
mlxr_expr mlxr_gb_dfa(mlxr_grammar_builder *b, mlxr_dfa *d);
/* The inside of a JSON string of min to max characters (code points; max SIZE_MAX: no bound), written with any escapes that JSON
 * has; \u escapes of surrogates come in pairs. */
mlxr_expr mlxr_gb_chars(mlxr_grammar_builder *b, size_t min, size_t max);
/* A text of the language that no mlxr_gb_unique of the same run of the rule's body has matched before: names of members
 * that are not listed. Takes the reference. */
mlxr_expr mlxr_gb_unique(mlxr_grammar_builder *b, mlxr_dfa *d);
/* A marker: the special token with this text, or the plain text. */
mlxr_expr mlxr_gb_marker(mlxr_grammar_builder *b, const char *text);
/* Any tokens, special ones too, as long as none of the texts is in them (special or plain): may end anywhere. n 0: any at all. */
mlxr_expr mlxr_gb_free(mlxr_grammar_builder *b, const char *const *texts, size_t n);
/* Any tokens up to the end of the first of the texts. */
mlxr_expr mlxr_gb_until(mlxr_grammar_builder *b, const char *const *texts, size_t n);

mlxr_expr mlxr_gb_seq(mlxr_grammar_builder *b, const mlxr_expr *e, size_t n);
mlxr_expr mlxr_gb_alt(mlxr_grammar_builder *b, const mlxr_expr *e, size_t n); /* n 0: never */
mlxr_expr mlxr_gb_optional(mlxr_grammar_builder *b, mlxr_expr e);
/* Small counts are written out, large ones are counted while matching. max SIZE_MAX: no bound. */
mlxr_expr mlxr_gb_repeat(mlxr_grammar_builder *b, mlxr_expr e, size_t min, size_t max);

/* An automaton of the caller's own as one expression: states 0 to n_states - 1, begins in 0. For orders of members and
 * items that the calls above do not say well. */
typedef struct mlxr_gb_edge {
    uint32_t from, to;
    mlxr_expr e;
} mlxr_gb_edge;
mlxr_expr mlxr_gb_graph(mlxr_grammar_builder *b, uint32_t n_states, const mlxr_gb_edge *edges, size_t n_edges,
                        const uint32_t *accepting, size_t n_accepting);

/* Rules: declared, then defined once (later, so that they may call each other), called any number of times. An
 * expression is used in one place only; what is wanted twice is a rule or is made twice. */
typedef uint32_t mlxr_rule;
mlxr_rule mlxr_gb_rule(mlxr_grammar_builder *b, const char *name);
void mlxr_gb_define(mlxr_grammar_builder *b, mlxr_rule r, mlxr_expr body);
mlxr_expr mlxr_gb_call(mlxr_grammar_builder *b, mlxr_rule r);
/* The members of the object that r writes, in the order in which it writes them; members that are not listed come behind
 * them. For those who want to write a given object (mlxr_matcher_member_orders). Names are copied, may hold NUL. */
void mlxr_gb_members(mlxr_grammar_builder *b, mlxr_rule r, const mlxr_text *names, size_t n);

/* Makes the grammar that begins with root; the builder is used up either way, but not freed. What can never be completed is
 * cut away; MLXR_E_INVALID_ARGUMENT when nothing is left, when a rule is not defined, or when one can call itself before it has
 * read a byte (left recursion), with the rule's name. */
mlxr_status mlxr_grammar_finish(mlxr_grammar **out, mlxr_grammar_builder *b, mlxr_rule root, mlxr_error *err);

/* Immutable, counted; any thread. */
mlxr_grammar *mlxr_grammar_ref(mlxr_grammar *g);
void mlxr_grammar_unref(mlxr_grammar *g);
size_t mlxr_grammar_bytes(const mlxr_grammar *g); /* of memory */

/* GBNF, llama.cpp's notation, with rule "root". name: what messages call the text. A mistake is MLXR_E_FORMAT with line and
 * column. */
mlxr_status mlxr_grammar_from_gbnf(mlxr_grammar **out, const char *text, size_t n, const char *name,
                                   const mlxr_grammar_limits *limits, mlxr_error *err);
/* The same into a builder: the rule to call. */
mlxr_status mlxr_gb_gbnf(mlxr_rule *out, mlxr_grammar_builder *b, const char *text, size_t n,
                         const char *name, mlxr_error *err);

/* ---- vocabulary: the tokens' bytes as a trie. Immutable; any thread; outlives its maskers ---- */
typedef struct mlxr_vocabulary mlxr_vocabulary;
/* Appends the bytes of token id as said at the top; nothing for an id that stands for no text. */
typedef void (*mlxr_token_bytes)(void *ud, int32_t id, mlxr_buf *out);
/* strips_first_space: the answer's text does not show one leading space of its first token (SentencePiece): then an answer may
 * begin with one more. */
typedef struct mlxr_vocabulary_params {
    size_t vocab_size; /* the model's; ids above the tokenizer's have no text */
    mlxr_token_bytes bytes;
    void *ud;
    const int32_t *eos_ids; /* never part of a text */
    size_t n_eos;
    bool strips_first_space;
} mlxr_vocabulary_params;
mlxr_status mlxr_vocabulary_create(mlxr_vocabulary **out, const mlxr_vocabulary_params *params,
                                   mlxr_error *err);
void mlxr_vocabulary_free(mlxr_vocabulary *v);

/* ---- masker: a grammar at work on a vocabulary, with what has been found out so far. One thread ---- */
typedef struct mlxr_masker mlxr_masker;
/* vocabulary NULL: for bytes alone, no masks. */
mlxr_status mlxr_masker_create(mlxr_masker **out, mlxr_grammar *g, const mlxr_vocabulary *vocabulary,
                               mlxr_error *err);
void mlxr_masker_free(mlxr_masker *k); /* its matchers are gone before */
/* Bytes that its tables take now; and gives back what is over `bytes`, least recently used first, matchers stay right. */
size_t mlxr_masker_bytes(const mlxr_masker *k);
void mlxr_masker_trim(mlxr_masker *k, size_t bytes);

/* ---- matcher: where one answer is. The masker's thread ---- */
typedef struct mlxr_matcher mlxr_matcher;
mlxr_status mlxr_matcher_create(mlxr_matcher **out, mlxr_masker *k, mlxr_error *err);
mlxr_status mlxr_matcher_clone(mlxr_matcher **out, const mlxr_matcher *m, mlxr_error *err);
void mlxr_matcher_free(mlxr_matcher *m);

/* The ids that may come next, one bit an id (bit id % 32 of word id / 32); without EOS ids. Borrowed until the next call on
 * any matcher of the masker. Does not move. */
mlxr_status mlxr_matcher_mask(const uint32_t **mask, mlxr_matcher *m, mlxr_error *err);
/* Moves on by a token that the mask has; another is MLXR_E_INVALID_ARGUMENT, and the matcher stays where it is. */
mlxr_status mlxr_matcher_accept(mlxr_matcher *m, int32_t id, mlxr_error *err);
/* The text so far is complete. */
bool mlxr_matcher_may_end(const mlxr_matcher *m);
/* It is complete, and nothing can follow. */
bool mlxr_matcher_must_end(const mlxr_matcher *m);

/* By bytes. *n_taken of them fit; the matcher is behind those. */
mlxr_status mlxr_matcher_push(size_t *n_taken, mlxr_matcher *m, const void *bytes, size_t n, mlxr_error *err);
/* Which bytes could come next. */
void mlxr_matcher_next_bytes(bool out[256], const mlxr_matcher *m);
/* Becomes the sum of both: what fits either. Both of one masker. */
mlxr_status mlxr_matcher_merge(mlxr_matcher *m, const mlxr_matcher *other, mlxr_error *err);
/* Of the rules in whose body the matcher is right now (any configuration), those with members: calls fn for each. */
void mlxr_matcher_member_orders(const mlxr_matcher *m,
                                void (*fn)(mlxr_rule rule, const mlxr_text *names, size_t n, void *ud),
                                void *ud);

#endif
