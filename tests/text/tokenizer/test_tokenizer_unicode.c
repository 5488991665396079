/* Normalization forms and clusters on characters whose forms are known; long runs of marks stay cheap. */
#include "text/tokenizer/tests.h"

#include "text/tokenizer/tokenizer.h"

static void check_form(tok_form form, const char *in, const char *want)
{
    mlxr_buf out = {0};
    tok_normalize_form(&out, form, in, strlen(in));
    assert_string_equal(out.data, want);
    if (strcmp(in, want) != 0) assert_false(tok_is_normal(form, in, strlen(in)));
    mlxr_buf_clear(&out);
}

static void test_forms(void **state)
{
    (void)state;
    check_form(TOK_NFC, "e\xcc\x81", "\xc3\xa9");
    check_form(TOK_NFD, "\xc3\xa9", "e\xcc\x81");
    check_form(TOK_NFC, "a\xcc\xa3\xcc\x82", "\xe1\xba\xad"); /* a + dot below + circumflex */
    check_form(TOK_NFC, "a\xcc\x82\xcc\xa3", "\xe1\xba\xad"); /* in the other order */
    check_form(TOK_NFC, "\xc3\xa2\xcc\xa3", "\xe1\xba\xad");  /* from a with circumflex */
    check_form(TOK_NFD, "\xea\xb0\x81", "\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8");
    check_form(TOK_NFC, "\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8", "\xea\xb0\x81");
    check_form(TOK_NFKC, "\xef\xac\x81", "fi");
    check_form(TOK_NFKD, "\xc2\xbd",
               "1\xe2\x81\x84"
               "2");
    check_form(TOK_NFC, "\xef\xac\x81", "\xef\xac\x81");
    check_form(TOK_NFC, "\xe2\x84\xa6", "\xce\xa9"); /* ohm sign */
    check_form(TOK_NFC, "plain text", "plain text");
}

static void test_many_marks(void **state)
{
    mlxr_buf in = {0}, out = {0}, again = {0};
    uint64_t from = mlxr_now_ns();
    (void)state;
    for (int i = 0; i < 200000; i++) mlxr_buf_utf8(&in, i % 3 ? 0x301 : 0x323);
    tok_normalize_form(&out, TOK_NFD, in.data, in.len);
    assert_int_equal(out.len, in.len);
    tok_normalize_form(&again, TOK_NFD, out.data, out.len);
    assert_memory_equal(out.data, again.data, out.len);
    assert_true(mlxr_now_ns() - from < 5000000000u);
    mlxr_buf_clear(&in);
    mlxr_buf_clear(&out);
    mlxr_buf_clear(&again);
}

static void test_clusters(void **state)
{
    (void)state;
    assert_int_equal(tok_grapheme("e\xcc\x81x", 4), 3);
    assert_int_equal(tok_grapheme("\r\n", 2), 2);
    assert_int_equal(tok_grapheme("\n\xcc\x81", 3), 1);
    assert_int_equal(tok_grapheme("\xf0\x9f\x87\xa9\xf0\x9f\x87\xaa\xf0\x9f\x87\xa9", 12),
                     8); /* two flags' letters, then one */
    assert_int_equal(tok_grapheme("\xf0\x9f\x91\xa8\xe2\x80\x8d\xf0\x9f\x91\xa9", 11),
                     11);                                                         /* joined people */
    assert_int_equal(tok_grapheme("\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8", 9), 9); /* Hangul L V T */
    assert_int_equal(tok_grapheme("\xe0\xa4\x95\xe0\xa5\x8d\xe0\xa4\x95", 9), 9); /* a conjunct */
}

static void test_bytes(void **state)
{
    (void)state;
    for (unsigned b = 0; b < 256; b++)
        assert_int_equal(tok_char_to_byte(tok_byte_to_char((unsigned char)b)), b);
    assert_int_equal(tok_byte_to_char(' '), 0x120);
    assert_int_equal(tok_byte_to_char('\n'), 0x10a);
    assert_int_equal(tok_char_to_byte(0x144), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forms), cmocka_unit_test(test_many_marks),
                                       cmocka_unit_test(test_clusters), cmocka_unit_test(test_bytes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
