"""One piece of work by llama.cpp, through llama-cpp-python's low-level calls, in a process of its own:

    python llama_child.py '{"job": "bench", "model": FILE, "threads": 2, "batch": 1, "context": 0, "prompt": 512, ...}'

Jobs: info, bench, first_token, logits, quantize. The answer is one JSON object, the last line on standard output
(logits: raw float32 instead). Started by compare_llama_cpp.py and fidelity.py. Of the package only the module of
ctypes bindings is loaded, so that neither its time nor its memory counts against llama.cpp."""

import ctypes
import importlib.metadata
import importlib.util
import json
import os
import sys
import time
import types

ERROR_LEVEL = 4
last_error = ""


def fail(text):
    print(f"llama.cpp: {text}" + (f" ({last_error})" if last_error else ""), file=sys.stderr)
    sys.exit(1)


def load_bindings():
    spec = importlib.util.find_spec("llama_cpp")
    if not spec or not spec.submodule_search_locations:
        fail("no llama-cpp-python in this Python")
    package = types.ModuleType("llama_cpp")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["llama_cpp"] = package
    import llama_cpp.llama_cpp as ll
    return ll


def status_bytes(field):
    try:
        with open("/proc/self/status") as f:
            for line in f:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def quiet(ll):
    """Messages are kept, not printed: the last error goes into ours."""
    def on_log(level, text, _):
        global last_error
        if level == ERROR_LEVEL and text:
            last_error = text.decode(errors="replace").strip()
    callback = ll.llama_log_callback(on_log)
    ll.llama_log_set(callback, ctypes.c_void_p(0))
    return callback


class Session:
    def __init__(self, ll, job, n_positions, n_seqs):
        self.ll = ll
        start = time.perf_counter_ns()
        params = ll.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = ll.llama_model_load_from_file(job["model"].encode(), params)
        if not self.model:
            fail(f"cannot load {job['model']}")
        self.vocab = ll.llama_model_get_vocab(self.model)
        self.n_vocab = ll.llama_vocab_n_tokens(self.vocab)
        each = (n_positions + 255) // 256 * 256
        c = ll.llama_context_default_params()
        c.n_ctx = each * n_seqs
        c.n_seq_max = n_seqs
        c.n_batch = job.get("n_batch", 2048)
        c.n_ubatch = min(c.n_batch, job.get("n_ubatch", 512))
        c.n_threads = c.n_threads_batch = job["threads"]
        flash = job.get("flash", "auto")
        if hasattr(c, "flash_attn_type"):
            c.flash_attn_type = {"auto": -1, "off": 0, "on": 1}[flash]
        else:
            c.flash_attn = flash != "off"
        c.no_perf = True
        self.n_batch = c.n_batch
        self.ctx = ll.llama_init_from_model(self.model, c)
        if not self.ctx:
            fail("cannot make a context")
        self.memory = ll.llama_get_memory(self.ctx)
        self.batch = ll.llama_batch_init(self.n_batch, 0, 1)
        self.load_ms = (time.perf_counter_ns() - start) / 1e6

    def decode(self, tokens):
        """tokens: (id, position, sequence, wanted)"""
        b = self.batch
        for i, (token, position, seq, wanted) in enumerate(tokens):
            b.token[i] = token
            b.pos[i] = position
            b.n_seq_id[i] = 1
            b.seq_id[i][0] = seq
            b.logits[i] = wanted
        b.n_tokens = len(tokens)
        rc = self.ll.llama_decode(self.ctx, b)
        if rc != 0:
            fail(f"llama_decode says {rc}")

    def done(self):
        self.ll.llama_synchronize(self.ctx)

    def prefill(self, ids, seq):
        for at in range(0, len(ids), self.n_batch):
            part = ids[at:at + self.n_batch]
            self.decode([(t, at + i, seq, at + i + 1 == len(ids)) for i, t in enumerate(part)])
        self.done()


def id_at(seq, position, n_vocab):
    """The same fixed pseudo-random ids as mlxctl bench."""
    h = (position * 2654435761 + seq * 40503 + 12345) & 0xffffffff
    h ^= h >> 15
    h = h * 2246822519 & 0xffffffff
    h ^= h >> 13
    return h % n_vocab


def job_bench(ll, job):
    base = status_bytes("VmRSS")
    n_prompt, n_tokens = job["prompt"], job["tokens"]
    n_seqs, n_context, repeats = job["batch"], job["context"], job["repeats"]
    s = Session(ll, job, max(n_prompt, n_context + n_tokens, 1), n_seqs)
    out = {"load_ms": s.load_ms, "prefill": [], "decode": [], "base_memory_bytes": base}

    prompt = [id_at(0, i, s.n_vocab) for i in range(n_prompt)]
    for r in range(repeats + 1 if n_prompt else 0):
        ll.llama_memory_clear(s.memory, False)
        start = time.perf_counter_ns()
        s.prefill(prompt, 0)
        if r:  # the first is the warm-up
            out["prefill"].append(n_prompt * 1e9 / (time.perf_counter_ns() - start))
    if n_tokens:
        ll.llama_memory_clear(s.memory, False)
        for seq in range(n_seqs if n_context else 0):
            s.prefill([id_at(seq, i, s.n_vocab) for i in range(n_context)], seq)
        for r in range(repeats + 1):
            for seq in range(n_seqs):
                if not ll.llama_memory_seq_rm(s.memory, seq, n_context, -1):
                    fail("llama_memory_seq_rm did not do it")
            steps = [[(id_at(q, n_context + i, s.n_vocab), n_context + i, q, 1) for q in range(n_seqs)]
                     for i in range(n_tokens)]
            start = time.perf_counter_ns()
            for step in steps:
                s.decode(step)
            s.done()
            if r:
                out["decode"].append(n_tokens * n_seqs * 1e9 / (time.perf_counter_ns() - start))
    out["peak_memory_bytes"] = status_bytes("VmHWM")
    return out


def job_first_token(ll, job, start):
    """A byte as soon as the likeliest first token is known; times from before the bindings were loaded."""
    s = Session(ll, job, 512, 1)
    text = job["text"].encode()
    ids = (ctypes.c_int32 * 512)()
    n = ll.llama_tokenize(s.vocab, text, len(text), ids, 512, True, True)
    if n <= 0:
        fail("cannot tokenize the prompt")
    s.prefill(list(ids[:n]), 0)
    logits = ll.llama_get_logits_ith(s.ctx, -1)
    values = ctypes.cast(logits, ctypes.POINTER(ctypes.c_float * s.n_vocab)).contents[:]
    best = values.index(max(values))
    ms = (time.perf_counter_ns() - start) / 1e6
    piece = ctypes.create_string_buffer(64)
    n_piece = ll.llama_token_to_piece(s.vocab, best, piece, 64, 0, True)
    sys.stdout.write(repr(piece.raw[:max(n_piece, 0)]) + "\n")
    sys.stdout.flush()
    return {"library_first_token_ms": ms, "load_ms": s.load_ms, "peak_memory_bytes": status_bytes("VmHWM")}


def job_logits(ll, job):
    """float32 [n, V] of every position to standard output; ids: a file of int32, contexts of `context` ids."""
    with open(job["ids"], "rb") as f:
        ids = memoryview(f.read()).cast("i")
    context, step = job["context"], job.get("step", 128)
    s = Session(ll, dict(job, n_batch=step), context, 1)
    if s.n_vocab != job["vocab"]:
        fail(f"{s.n_vocab} tokens in the vocabulary, wanted {job['vocab']}")
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    for begin in range(0, len(ids) // context * context, context):
        ll.llama_memory_clear(s.memory, True)
        for at in range(0, context, step):
            n = min(step, context - at)
            s.decode([(ids[begin + at + i], at + i, 0, 1) for i in range(n)])
            s.done()
            logits = ll.llama_get_logits(s.ctx)
            view = memoryview(ctypes.string_at(logits, n * s.n_vocab * 4))
            while len(view):
                view = view[out.write(view):]
    out.close()


def job_quantize(ll, job):
    params = ll.llama_model_quantize_default_params()
    params.ftype = getattr(ll, job["ftype"])
    params.allow_requantize = True
    params.pure = job["pure"]
    params.nthread = job.get("threads", 0)
    rc = ll.llama_model_quantize(job["source"].encode(), job["target"].encode(), params)
    if rc != 0:
        fail(f"llama_model_quantize says {rc}")
    return {"bytes": os.path.getsize(job["target"])}


def job_info(ll):
    m, c = ll.llama_model_default_params(), ll.llama_context_default_params()
    settings = {}
    for params, names in ((m, ["load_mode", "use_mmap", "use_extra_bufts"]),
                          (c, ["n_batch", "n_ubatch", "flash_attn_type", "flash_attn", "type_k", "type_v", "kv_unified"])):
        for name in names:
            if hasattr(params, name):
                settings[name] = getattr(params, name)
    try:
        version = importlib.metadata.version("llama-cpp-python")
    except importlib.metadata.PackageNotFoundError:
        version = "of unknown version"
    return {"version": version, "defaults": settings,
            "system_info": ll.llama_print_system_info().decode(errors="replace").strip()}


def main():
    start = time.perf_counter_ns()
    job = json.loads(sys.argv[1])
    ll = load_bindings()
    keep = quiet(ll)  # the callback lives as long as the library calls it
    ll.llama_backend_init()
    kind = job["job"]
    if kind == "bench":
        result = job_bench(ll, job)
    elif kind == "first_token":
        result = job_first_token(ll, job, start)
    elif kind == "logits":
        result = job_logits(ll, job)
    elif kind == "quantize":
        result = job_quantize(ll, job)
    elif kind == "info":
        result = job_info(ll)
    else:
        fail(f"no job {kind}")
    if result is not None:
        print(json.dumps(result))
    sys.stdout.flush()
    os._exit(0 if keep else 1)  # nothing is torn down: only what was answered counts


main()
