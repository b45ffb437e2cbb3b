// SPDX-License-Identifier: GPL-2.0
#include <linux/kprobes.h>

#include "compat/compat.h"
#include "wrapper/symbol.h"

/**
 * symbol_address() - where a function begins
 * @name: its name, after "MODULE:" if it is in one
 *
 * A kprobe that is registered by name, disabled, and removed again tells that.
 *
 * Context: May sleep.
 * Return: the address, for direct calls only, since an ENDBR at it may be sealed; or NULL.
 */
void *symbol_address(const char *name)
{
	struct kprobe kp = {
		.symbol_name = name,
		.flags = KPROBE_FLAG_DISABLED,
	};
	void *addr;

	if (register_kprobe(&kp))
		return NULL;

	addr = kp.addr;
	unregister_kprobe(&kp);

	/* A probe goes behind the ENDBR.  Call depth tracking wants to see the start. */
	if (compat_is_endbr((u32 *)addr - 1))
		addr -= sizeof(u32);

	return addr;
}
