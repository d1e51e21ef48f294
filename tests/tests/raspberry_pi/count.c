/* A plugin for QEMU's user mode that counts instructions. Enters: out=NAME. Leaves in that file: a line for each call of
   getppid, with the number of instructions executed up to it. Declares what it uses of qemu-plugin.h, which distributions do
   not package; -DPLUGIN_VERSION=1 for QEMU 4 to 8, 2 for later ones. One thread. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t id_t_;
struct tb;
extern void qemu_plugin_register_vcpu_tb_trans_cb(id_t_, void (*)(id_t_, struct tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct tb *, void (*)(unsigned, void *), int flags, void *);
extern size_t qemu_plugin_tb_n_insns(const struct tb *);
extern void qemu_plugin_register_vcpu_syscall_cb(
    id_t_, void (*)(id_t_, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));

/* On aarch64. */
enum { GETPPID = 173 };

__attribute__((visibility("default"))) int qemu_plugin_version = PLUGIN_VERSION;

static uint64_t executed;
static FILE *out;

static void block_runs(unsigned cpu, void *instructions)
{
    (void)cpu;
    executed += (uintptr_t)instructions;
}

static void block_translated(id_t_ id, struct tb *block)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(block, block_runs, 0, (void *)(uintptr_t)qemu_plugin_tb_n_insns(block));
}

static void called(id_t_ id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                   uint64_t f, uint64_t g, uint64_t h)
{
    (void)id, (void)cpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number == GETPPID) {
        fprintf(out, "%llu\n", (unsigned long long)executed);
        fflush(out);
    }
}

__attribute__((visibility("default"))) int qemu_plugin_install(id_t_ id, const void *info, int argc, char **argv)
{
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4) != 0 || !(out = fopen(argv[0] + 4, "w"))) {
        fprintf(stderr, "count: expected out=NAME, a file that can be written\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, block_translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
