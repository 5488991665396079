#!/usr/bin/env bash
# Installs into an empty prefix and uses what is there as a stranger would: test_install.sh CMAKE BUILD SOURCE LIBDIR
# CC [CFLAG...]. Everything goes into a temporary folder.
set -euo pipefail
cmake=$1 build=$2 source=$3 libdir=$4
shift 4
cc=("$@" -std=c11 -Wall -Wextra -Werror)

wrong() {
    printf 'install: %s\n' "$*" >&2
    exit 1
}

prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
"$cmake" --install "$build" --prefix "$prefix/first" >"$prefix/install.log" || wrong "cmake --install failed"
mv "$prefix/first" "$prefix/moved" # the .pc file has to follow
root=$prefix/moved
export PKG_CONFIG_PATH=$root/$libdir/pkgconfig

# The header is enough by itself.
printf '#include <mlxr.h>\nint main(void) { return mlxr_version()[0] == 0; }\n' >"$prefix/alone.c"
read -ra flags <<<"$(pkg-config --cflags --libs mlxr)"
"${cc[@]}" "$prefix/alone.c" -o "$prefix/alone" "${flags[@]}"

# The example, with the shared library and with the static one.
"${cc[@]}" "$source/examples/generate.c" -o "$prefix/shared" "${flags[@]}"
read -ra flags <<<"$(pkg-config --static --cflags --libs mlxr)"
"${cc[@]}" "$source/examples/generate.c" -o "$prefix/static" "${flags[@]/#-lmlxr/$root/$libdir/libmlxr.a}"
for example in shared static; do
    LD_LIBRARY_PATH=$root/$libdir "$prefix/$example" mock "Hello there" >"$prefix/$example.out" ||
        wrong "the example ($example) failed"
    grep -Eq '^\[[1-9][0-9]* tokens, (stop|length)\]$' "$prefix/$example.out" ||
        wrong "the example ($example) said: $(cat "$prefix/$example.out")"
done
cmp "$prefix/shared.out" "$prefix/static.out" || wrong "shared and static library answer differently"
if ldd "$prefix/static" 2>/dev/null | grep -q libmlxr; then wrong "the static example needs libmlxr.so"; fi

# What the program writes about itself.
for file in man/man1/mlxctl.1 man/man1/mlxctl-store-list.1 bash-completion/completions/mlxctl zsh/site-functions/_mlxctl \
    fish/vendor_completions.d/mlxctl.fish man/man1/mlxserve.1 bash-completion/completions/mlxserve \
    fish/vendor_completions.d/mlxserve.fish mlxr/mlxserve.yaml; do
    [ -s "$root/share/$file" ] || wrong "share/$file is not there"
done

# The example of texts: ids and back, a rendered prompt.
read -ra flags <<<"$(pkg-config --cflags --libs mlxr)"
"${cc[@]}" "$source/examples/text.c" -o "$prefix/text" "${flags[@]}"
LD_LIBRARY_PATH=$root/$libdir "$prefix/text" "$source/tests/runner/fixtures/tiny_chat" "the the" >"$prefix/text.out" ||
    wrong "the example of texts failed"
printf '257 258\nthe the\n<user>Hello\n' | cmp - "$prefix/text.out" || wrong "the example of texts said: $(cat "$prefix/text.out")"

# A model that is not there: one line, exit code 1.
if LD_LIBRARY_PATH=$root/$libdir "$prefix/shared" "$prefix/no-such-model" "Hello" 2>"$prefix/err" >/dev/null; then
    wrong "the example took a folder that is not there"
fi
grep -q no-such-model "$prefix/err" || wrong "the error does not name the folder: $(cat "$prefix/err")"

# The shared library exports what the header declares, all of it and nothing else.
if [ "$(uname -s)" = Linux ]; then
    sed '/^#/d' "$root/include/mlxr.h" | tr '\n' ' ' | grep -oE 'MLXR_API [^;(]*\(' | sed -E 's/.*[ *](mlxr_[a-z0-9_]+)\($/\1/' |
        sort -u >"$prefix/declared"
    nm -D --defined-only "$root/$libdir/libmlxr.so" | awk '{ print $3 }' | sort -u >"$prefix/exported"
    diff "$prefix/declared" "$prefix/exported" || wrong "declared (<) and exported (>) symbols differ"
fi

for program in mlx-demo mlxctl mlxserve; do
    [ -x "$root/bin/$program" ] || wrong "bin/$program is not installed"
    "$root/bin/$program" --help >/dev/null || wrong "bin/$program --help failed"
done
echo "install: header, shared and static library, pkg-config file, programs, example: as they should be"
