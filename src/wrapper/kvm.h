/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Direct calls to functions of kvm.ko that are global but not exported.
 */
#ifndef _MEMSLOT_OPS_WRAPPER_KVM_H
#define _MEMSLOT_OPS_WRAPPER_KVM_H

#include <linux/kvm_host.h>
#include <linux/static_call.h>

/* All that this module needs of KVM beyond what it exports; nothing optional. */
#define KVM_SYMBOLS(X)			\
	X(kvm_register_device_ops)	\
	X(kvm_arch_prepare_memory_region)	\
	X(kvm_arch_commit_memory_region)	\
	X(kvm_arch_free_memslot)	\
	X(kvm_arch_memslots_updated)

#define KVM_DECLARE_CALL(name) DECLARE_STATIC_CALL(memslot_ops_##name, name);
KVM_SYMBOLS(KVM_DECLARE_CALL)
#undef KVM_DECLARE_CALL

/**
 * kvm_call() - call a KVM function that is not exported
 * @name: one of KVM_SYMBOLS
 *
 * Use as ``kvm_call(kvm_arch_free_memslot)(kvm, slot)``.  The call is direct:
 * an indirect one would fault on a CPU with IBT, for the ENDBR of a function
 * whose address nobody takes is sealed when its module loads.
 */
#define kvm_call(name) static_call(memslot_ops_##name)

int kvm_symbols_resolve(void);

#endif /* _MEMSLOT_OPS_WRAPPER_KVM_H */
