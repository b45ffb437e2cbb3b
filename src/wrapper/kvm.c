// SPDX-License-Identifier: GPL-2.0
/*
 * KVM exports what its vendor modules call; building a memslot layout is not
 * among that, in any version.
 *
 * A prototype is checked against the kernel's headers at build time
 * (DECLARE_STATIC_CALL takes the declared type); what a function does is not,
 * which is why only known kernels are accepted, see compat/compat.h.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "compat/compat.h"
#include "wrapper/kvm.h"
#include "wrapper/symbol.h"

#define KVM_SYMBOL(name) DEFINE_STATIC_CALL_NULL(memslot_ops_##name, name)
#define KERNEL_SYMBOL(name) KVM_SYMBOL(name)
#include "kvm_symbols.h"
#undef KERNEL_SYMBOL
#undef KVM_SYMBOL

/*
 * Names that are looked up make no module dependency.  This reference to a symbol
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

static void *resolve(const char *name)
{
	void *addr = symbol_address(name);

	if (!addr)
		pr_err("there is no function %s\n", name);

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

#define RESOLVE(where, name)							\
	do {									\
		addr = resolve(where #name);					\
		if (!addr)							\
			return -ENOENT;						\
		static_call_update(memslot_ops_##name, (typeof(name) *)addr);	\
	} while (0)
#define KVM_SYMBOL(name) RESOLVE(KVM_MODULE, name)
#define KERNEL_SYMBOL(name) RESOLVE("", name)
#include "kvm_symbols.h"
#undef KERNEL_SYMBOL
#undef KVM_SYMBOL

	return 0;
}
