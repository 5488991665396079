/* listen: see listen.h. Sockets of the service manager and messages to it are systemd's protocols, sd_listen_fds(3) and sd_notify(3). */
#include "listen.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fs.h"
#include "store/http.h"

/* ---- the address ---- */

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

void listen_address_clear(struct listen_address *a)
{
    free(a->host);
    *a = (struct listen_address){0};
}

/* "HOST", "HOST:PORT", ":PORT", "[V6]:PORT", "V6", with a scheme before it. *port -1: it says none. */
static mlxr_status split(struct listen_address *out, long *port, const char *text, const char *from,
                         mlxr_error *err)
{
    const char *rest = text, *host, *colon, *end;
    size_t n;

    *port = -1;
    if (begins(rest, "http://")) {
        rest += 7;
        *port = 80;
    } else if (begins(rest, "https://")) {
        rest += 8;
        *port = 443;
    }
    n = strlen(rest);
    while (n && *port >= 0 && rest[n - 1] == '/') n--;
    end = rest + n;
    host = rest;
    colon = memchr(rest, ':', n);
    if (n && *rest == '[') {
        const char *close = memchr(rest, ']', n);
        if (!close || (close + 1 < end && close[1] != ':')) goto bad;
        host = rest + 1;
        n = (size_t)(close - host);
        colon = close + 1 < end ? close + 1 : NULL;
    } else if (colon && memchr(colon + 1, ':', (size_t)(end - colon - 1))) {
        colon = NULL; /* a bare IPv6 address */
    } else if (colon) {
        n = (size_t)(colon - rest);
    }
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)host[i] <= ' ' || strchr("/@?#\\<>\"{}|^`", host[i])) goto bad;
    if (colon) {
        char *stop;
        *port = isdigit((unsigned char)colon[1]) ? strtol(colon + 1, &stop, 10) : -1;
        if (*port < 0 || *port > 65535 || stop != end)
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                             "%s: \"%s\": its port is no number from 0 to 65535", from, text);
    }
    out->host = n ? mlxr_strndup(host, n) : mlxr_strdup("127.0.0.1");
    return out->host ? MLXR_OK : mlxr_fail_nomem(err, "host");
bad:
    return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT,
                     "%s: \"%s\" is no address to listen at: HOST, HOST:PORT, :PORT, [V6]:PORT, "
                     "http://HOST:PORT or unix:PATH",
                     from, text);
}

static bool address_is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_UNIX) return true;
    if (a->sa_family == AF_INET)
        return (ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24) == 127;
    if (a->sa_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
    return false;
}

/* Whether all that the name stands for is loopback. */
static mlxr_status look_up(struct listen_address *a, const char *from, mlxr_error *err)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE},
                    *found = NULL;
    int e = getaddrinfo(a->host, NULL, &hints, &found);

    if (e != 0)
        return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s: \"%s\": %s", from, a->host, gai_strerror(e));
    a->loopback = true;
    for (const struct addrinfo *i = found; i; i = i->ai_next) a->loopback &= address_is_loopback(i->ai_addr);
    freeaddrinfo(found);
    return MLXR_OK;
}

enum { FIRST_FD = 3 };

/* A socket that the service manager listens at for us. */
static bool from_manager(struct listen_address *out)
{
    const char *pid = getenv("LISTEN_PID"), *n = getenv("LISTEN_FDS");
    struct sockaddr_storage a = {0};
    socklen_t n_a = sizeof a;

    if (!pid || !n || strtol(pid, NULL, 10) != (long)getpid() || strtol(n, NULL, 10) < 1) return false;
    if (getsockname(FIRST_FD, (struct sockaddr *)&a, &n_a) != 0) return false;
    out->host = mlxr_asprintf("fd:%d", FIRST_FD);
    out->loopback = address_is_loopback((struct sockaddr *)&a);
    return out->host != NULL;
}

mlxr_status listen_address_read(struct listen_address *out, const struct settings *s, mlxr_error *err)
{
    const char *from = settings_from(s, "host"), *host = s->host ? s->host : "127.0.0.1";
    int host_rank = settings_rank(s, "host"), port_rank = settings_rank(s, "port");
    mlxr_status st;
    long port;

    *out = (struct listen_address){.port = (uint16_t)s->port};
    if (from_manager(out)) return MLXR_OK;
    if (begins(host, "unix:")) {
        host += begins(host, "unix://") ? 7 : 5;
        if (!*host)
            return mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s: unix: needs the path of a socket", from);
        out->host = mlxr_asprintf("unix:%s", host);
        out->loopback = true;
        return out->host ? MLXR_OK : mlxr_fail_nomem(err, "host");
    }
    if ((st = split(out, &port, host, from, err)) != MLXR_OK) return st;
    if (port >= 0 && port_rank == host_rank && port_rank > 0 && port != s->port)
        st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s says port %ld and %s port %lld", from, port,
                       settings_from(s, "port"), (long long)s->port);
    if (st == MLXR_OK && port >= 0 && port_rank < host_rank) out->port = (uint16_t)port;
    if (st == MLXR_OK && begins(host, "https://") && !s->tls_cert)
        st = mlxr_fail(err, MLXR_E_INVALID_ARGUMENT, "%s: https wants --tls-cert and --tls-key", from);
    if (st == MLXR_OK) st = look_up(out, from, err);
    if (st != MLXR_OK) listen_address_clear(out);
    return st;
}

char *listen_url(const mlxr_server *server, const struct settings *s)
{
    const char *address = mlxr_server_address(server), *scheme = s->tls_cert ? "https" : "http";
    const char *colon = strrchr(address, ':');
    char *full, *url;

    if (begins(address, "unix:")) {
        if (address[5] == '/') return mlxr_strdup(address);
        full = realpath(address + 5, NULL);
        url = mlxr_asprintf("unix:%s", full ? full : address + 5);
        free(full);
        return url;
    }
    if (colon && begins(address, "0.0.0.0:")) return mlxr_asprintf("%s://127.0.0.1%s", scheme, colon);
    if (colon && begins(address, "[::]:")) return mlxr_asprintf("%s://[::1]%s", scheme, colon);
    return mlxr_asprintf("%s://%s", scheme, address);
}

void listen_tell_other(const struct listen_address *a, mlxr_error *err)
{
    mlxr_http_options options = mlxr_http_options_default();
    mlxr_http_request request = {.max_body = 1 << 16, .no_redirects = true, .no_proxy = true};
    mlxr_http_answer answer = {0};
    mlxr_http *http = NULL;
    char *url = NULL;
    json_t *doc = NULL;
    const char *version, *own;

    if (begins(a->host, "fd:")) return;
    /* What listens there may be anything: it has two seconds. */
    options.n_tries = 1;
    options.connect_ms = 1000;
    options.stall_seconds = 2;
    if (begins(a->host, "unix:")) {
        request.socket = a->host + 5;
        url = mlxr_strdup("http://localhost/api/version");
    } else {
        bool any = strcmp(a->host, "0.0.0.0") == 0 || strcmp(a->host, "::") == 0;
        url = mlxr_asprintf(strchr(a->host, ':') && !any ? "http://[%s]:%u/api/version"
                                                         : "http://%s:%u/api/version",
                            any ? "127.0.0.1" : a->host, a->port);
    }
    request.url = url;
    if (!url || mlxr_http_create(&http, &options, NULL) != MLXR_OK ||
        mlxr_http_do(&answer, http, &request, NULL) != MLXR_OK)
        goto done;
    if (answer.status == 401) {
        mlxr_error_append(err, "; what is there wants a key");
    } else if (answer.body.len &&
               mlxr_json_parse(&doc, answer.body.data, answer.body.len, "answer", NULL) == MLXR_OK) {
        version = json_string_value(json_object_get(doc, "version"));
        own = json_string_value(json_object_get(doc, "mlxr"));
        if (own)
            mlxr_error_append(err, "; mlxserve %.40s is there already", own);
        else if (version)
            mlxr_error_append(err, "; what is there answers as Ollama %.40s", version);
    }
done:
    json_decref(doc);
    mlxr_http_answer_clear(&answer);
    mlxr_http_free(http);
    free(url);
}

/* ---- keys ---- */

struct listen_key_list {
    struct listen_key_list *next;
    mlxr_arena arena;
    mlxr_gate_keys keys;
};

enum { MAX_KEY_FILE = 1 << 20, SHORT_KEY = 16 };

/* The next line without its newline, spaces around it, and what begins with "#"; *n 0: nothing stands there. */
static char *next_line(char **text, size_t *n)
{
    char *line = *text, *end = line + strcspn(line, "\n");

    *text = *end ? end + 1 : end;
    while (line < end && isspace((unsigned char)*line)) line++;
    while (end > line && isspace((unsigned char)end[-1])) end--;
    *n = *line == '#' ? 0 : (size_t)(end - line);
    return line;
}

mlxr_status listen_keys_read(struct listen_keys *k, const char *path, mlxr_error *err)
{
    struct listen_key_list *list = calloc(1, sizeof *list);
    const char **keys = NULL;
    mlxr_buf text = {0};
    struct stat info;
    mlxr_status st = MLXR_OK;
    size_t n_lines = 1, i_line = 0, n;
    char *at;

    if (!list) return mlxr_fail_nomem(err, "keys");
    if (stat(path, &info) != 0) {
        st = mlxr_fail(err, MLXR_E_NOT_FOUND, "keys: %s: %s", path, strerror(errno));
        goto done;
    }
    if (S_ISREG(info.st_mode) && (info.st_mode & 027)) {
        st = mlxr_fail(err, MLXR_E_DENIED,
                       "keys: %s: others may %s it (mode %04o); \"chmod 600\" keeps it to its owner", path,
                       info.st_mode & 022 ? "change" : "read", (unsigned)(info.st_mode & 07777));
        goto done;
    }
    if ((st = mlxr_file_read(&text, path, MAX_KEY_FILE, err)) != MLXR_OK) goto done;
    if (text.len && memchr(text.data, '\0', text.len)) {
        st = mlxr_fail(err, MLXR_E_FORMAT, "keys: %s: has a NUL byte", path);
        goto done;
    }
    for (size_t i = 0; i < text.len; i++) n_lines += text.data[i] == '\n';
    if (!(keys = mlxr_arena_calloc(&list->arena, n_lines, sizeof *keys))) {
        st = mlxr_fail_nomem(err, "keys");
        goto done;
    }
    for (at = text.data; at && *at;) {
        char *line = next_line(&at, &n);
        i_line++;
        if (n == 0) continue;
        for (size_t i = 0; i < n; i++)
            if ((unsigned char)line[i] <= ' ' || (unsigned char)line[i] >= 0x7f) {
                st = mlxr_fail(err, MLXR_E_FORMAT,
                               "keys: %s:%zu: a key is made of visible ASCII characters without spaces", path,
                               i_line);
                goto done;
            }
        if (!(keys[list->keys.n++] = mlxr_arena_strndup(&list->arena, line, n))) {
            st = mlxr_fail_nomem(err, "keys");
            goto done;
        }
    }
    if (list->keys.n == 0) {
        st = mlxr_fail(err, MLXR_E_FORMAT, "keys: %s: there is no key in it", path);
        goto done;
    }
    list->keys.keys = keys;
    list->next = k->lists;
    k->lists = list;
    list = NULL;
done:
    if (list) mlxr_arena_clear(&list->arena);
    free(list);
    mlxr_buf_clear(&text);
    return st;
}

const mlxr_gate_keys *listen_keys_get(const struct listen_keys *k)
{
    return k->lists ? &k->lists->keys : NULL;
}

void listen_keys_clear(struct listen_keys *k)
{
    while (k->lists) {
        struct listen_key_list *list = k->lists;
        k->lists = list->next;
        mlxr_arena_clear(&list->arena);
        free(list);
    }
}

/* ---- the note in the store ---- */

/* The file at path, locked, and still the one at path; -1 with errno EWOULDBLOCK: somebody holds it. */
static int lock_path(const char *path)
{
    for (int i = 0; i < 20; i++) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        struct stat own, there;
        if (fd < 0) return -1;
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            int e = errno;
            close(fd);
            errno = e;
            return -1;
        }
        if (fstat(fd, &own) == 0 && stat(path, &there) == 0 && own.st_ino == there.st_ino &&
            own.st_dev == there.st_dev)
            return fd;
        close(fd); /* removed or replaced between open and lock */
    }
    errno = EWOULDBLOCK;
    return -1;
}

static mlxr_status write_note(int fd, const char *url, const char *path, mlxr_error *err)
{
    json_t *doc = json_pack("{s:s, s:i, s:s}", "url", url, "pid", (int)getpid(), "version", mlxr_version());
    char *text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
    mlxr_status st = MLXR_OK;
    size_t n = text ? strlen(text) : 0;

    if (!text)
        st = mlxr_fail_nomem(err, "daemon.json");
    else if (write(fd, text, n) != (ssize_t)n)
        st = mlxr_fail(err, MLXR_E_IO, "%s: cannot write: %s", path, strerror(errno));
    free(text);
    json_decref(doc);
    return st;
}

mlxr_status listen_note_open(struct listen_note *n, const char *store, const char *url, mlxr_error *err)
{
    char *fresh = NULL;
    mlxr_status st;

    *n = (struct listen_note){.lock = -1, .file = -1};
    if ((st = mlxr_make_dirs(store, err)) != MLXR_OK) return st;
    n->path = mlxr_path_join(store, "daemon.json");
    fresh = n->path ? mlxr_asprintf("%s.%ld", n->path, (long)getpid()) : NULL;
    if (!fresh) {
        st = mlxr_fail_nomem(err, "daemon.json");
        goto done;
    }
    if ((n->lock = lock_path(n->path)) < 0) {
        json_t *doc = NULL;
        const char *other = NULL;
        bool held = errno == EWOULDBLOCK;
        st = held ? mlxr_fail(err, MLXR_E_BUSY, "another daemon serves %s", store)
                  : mlxr_fail(err, MLXR_E_IO, "%s: %s", n->path, strerror(errno));
        if (held && mlxr_json_read(&doc, n->path, 1 << 16, NULL) == MLXR_OK)
            other = json_string_value(json_object_get(doc, "url"));
        if (other) mlxr_error_append(err, ": %s", other);
        json_decref(doc);
        goto done;
    }
    /* Readers see the whole note or none: it is written beside, locked, and takes the name. The lock on what had the name keeps others
     * out meanwhile. */
    unlink(fresh);
    n->file = open(fresh, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (n->file < 0) {
        st = mlxr_fail(err, MLXR_E_IO, "%s: %s", fresh, strerror(errno));
        goto done;
    }
    if ((st = write_note(n->file, url, fresh, err)) != MLXR_OK) goto done;
    if (flock(n->file, LOCK_EX | LOCK_NB) != 0 || rename(fresh, n->path) != 0)
        st = mlxr_fail(err, MLXR_E_IO, "%s: %s", n->path, strerror(errno));
done:
    if (st != MLXR_OK) {
        if (fresh && n->file >= 0) {
            unlink(fresh);
            close(n->file);
        }
        n->file = -1;
        listen_note_close(n);
    }
    free(fresh);
    return st;
}

void listen_note_close(struct listen_note *n)
{
    if (n->file >= 0) {
        unlink(n->path);
        close(n->file);
    }
    if (n->lock >= 0) close(n->lock);
    free(n->path);
    *n = (struct listen_note){.lock = -1, .file = -1};
}

/* ---- the service manager ---- */

void listen_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t n = path ? strlen(path) : 0;
    int fd;

    if (n < 2 || n >= sizeof a.sun_path || (*path != '/' && *path != '@')) return;
    memcpy(a.sun_path, path, n);
    if (*path == '@') a.sun_path[0] = '\0'; /* the abstract namespace */
    fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (fd < 0) return;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&a,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0) {
        /* nobody listens: there is nothing to do about it */
    }
    close(fd);
}
