# Writes OUT, a C file with the bytes of IN: const char NAME[] (with a NUL behind them) and const size_t NAME_n.
file(READ "${IN}" hex HEX)
file(SIZE "${IN}" size)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "((0x..,)(0x..,)(0x..,)(0x..,)(0x..,)(0x..,)(0x..,)(0x..,))" "\\1\n" bytes "${bytes}")
file(WRITE "${OUT}" "#include <stddef.h>\n\nextern const char ${NAME}[];\nextern const size_t ${NAME}_n;\nconst char ${NAME}[] = {\n${bytes}0x00};\nconst size_t ${NAME}_n = ${size};\n")
