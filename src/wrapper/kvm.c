// SPDX-License-Identifier: GPL-2.0
/*
 * KVM exports what its vendor modules call; building a memslot layout is not
 * among that, in any version.  A kprobe that is registered by name, disabled,
 * and removed again tells where a function lives, in modules too.
 *
 * A prototype is checked against the kernel's headers at build time
 * (DECLARE_STATIC_CALL takes the declared type); what a function does is not,
 * which is why only known kernels are accepted, see compat/compat.h.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kprobes.h>

#include "compat/compat.h"
#include "wrapper/kvm.h"

#define KVM_SYMBOL(name) DEFINE_STATIC_CALL_NULL(memslot_ops_##name, name)
#include "kvm_symbols.h"
#undef KVM_SYMBOL

/*
 * Names found by kprobe make no module dependency.  This reference to a symbol
 * that is exported to everyone does: it keeps kvm.ko, and with it the text that
 * is called here, in place for as long as this module is.
 */
static void *const kvm_dependency __used = kvm_put_kvm;

/* Where a name is looked for: other modules may have functions of the same name. */
#if IS_MODULE(CONFIG_KVM)
#define KVM_MODULE	"kvm:"
#else
#define KVM_MODULE	""
#endif

/* The address is for direct calls only: an ENDBR at it may be sealed. */
static void *kvm_symbol(const char *name)
{
	struct kprobe kp = {
		.symbol_name = name,
		.flags = KPROBE_FLAG_DISABLED,
	};
	void *addr;
	int r;

	r = register_kprobe(&kp);
	if (r < 0) {
		pr_err("symbol %s not found (%d)\n", name, r);
		return NULL;
	}

	addr = kp.addr;
	unregister_kprobe(&kp);

	/* A probe goes behind the ENDBR.  Call depth tracking wants to see the start. */
	if (compat_is_endbr((u32 *)addr - 1))
		addr -= sizeof(u32);

	return addr;
}

/**
 * kvm_symbols_resolve() - make every kvm_call() possible
 *
 * Context: Module initialisation; may sleep.
 * Return: 0, or -ENOENT where KVM lacks a function, after logging its name.
 */
int kvm_symbols_resolve(void)
{
	void *addr;

#define KVM_SYMBOL(name)							\
	do {									\
		addr = kvm_symbol(KVM_MODULE #name);				\
		if (!addr)							\
			return -ENOENT;						\
		static_call_update(memslot_ops_##name, (typeof(name) *)addr);	\
	} while (0)
#include "kvm_symbols.h"
#undef KVM_SYMBOL

	return 0;
}
