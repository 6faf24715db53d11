"""Words that two threads share: acquire and release, compare and swap, and waiting."""

from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic


def _word(context, builder, signature, words, at):
    return builder.gep(context.make_array(signature.args[0])(context, builder, words).data, [at])


@intrinsic
def _load(typing_context, words, at):
    def implementation(context, builder, signature, arguments):
        return builder.load_atomic(_word(context, builder, signature, *arguments), "acquire", 8)

    return types.int64(words, types.int64), implementation


@intrinsic
def _store(typing_context, words, at, value):
    def implementation(context, builder, signature, arguments):
        words, at, value = arguments
        builder.store_atomic(value, _word(context, builder, signature, words, at), "release", 8)
        return context.get_dummy_value()

    return types.void(words, types.int64, types.int64), implementation


@intrinsic
def _add(typing_context, words, at, value):
    def implementation(context, builder, signature, arguments):
        words, at, value = arguments
        return builder.atomic_rmw("add", _word(context, builder, signature, words, at), value, "acq_rel")

    return types.int64(words, types.int64, types.int64), implementation


@intrinsic
def _swap_if_equal(typing_context, words, at, expected, value):
    """Whether the word was ``expected`` and is ``value`` now."""

    def implementation(context, builder, signature, arguments):
        words, at, expected, value = arguments
        word = _word(context, builder, signature, words, at)
        return builder.extract_value(builder.cmpxchg(word, expected, value, "acq_rel", "acquire"), 1)

    return types.boolean(words, types.int64, types.int64, types.int64), implementation


@intrinsic
def _pause(typing_context):
    """Tell the core that this thread only waits."""

    def implementation(context, builder, signature, arguments):
        triple = builder.module.triple
        if triple.startswith(("x86_64", "i386", "i686")):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        elif triple.startswith(("aarch64", "arm64")):
            kind = ir.FunctionType(ir.VoidType(), [ir.IntType(32)])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.aarch64.hint")
            builder.call(function, [ir.Constant(ir.IntType(32), 1)])
        return context.get_dummy_value()

    return types.void(), implementation


def _plain_load(words, at):
    return int(words[at])


def _plain_store(words, at, value):
    words[at] = value


def _plain_add(words, at, value):
    words[at] += value
    return int(words[at]) - value


def _plain_swap_if_equal(words, at, expected, value):
    if words[at] != expected:
        return False
    words[at] = value
    return True


def _plain_pause():
    pass


load = _plain_load if config.DISABLE_JIT else _load
store = _plain_store if config.DISABLE_JIT else _store
add = _plain_add if config.DISABLE_JIT else _add
swap_if_equal = _plain_swap_if_equal if config.DISABLE_JIT else _swap_if_equal
pause = _plain_pause if config.DISABLE_JIT else _pause
