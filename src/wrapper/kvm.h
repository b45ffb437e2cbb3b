/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Direct calls to functions of kvm.ko, and of the kernel, that are global but not exported.
 */
#ifndef _MEMSLOT_OPS_WRAPPER_KVM_H
#define _MEMSLOT_OPS_WRAPPER_KVM_H

#include <linux/kvm_host.h>
#include <linux/static_call.h>
#include <linux/vmalloc.h>

#define KVM_SYMBOL(name) DECLARE_STATIC_CALL(memslot_ops_##name, name)
#define KERNEL_SYMBOL(name) KVM_SYMBOL(name)
#include "kvm_symbols.h"
#undef KERNEL_SYMBOL
#undef KVM_SYMBOL

/**
 * kvm_call() - call a function of KVM's, or of the kernel's, that is not exported
 * @name: one of kvm_symbols.h
 *
 * Use as ``kvm_call(kvm_arch_free_memslot)(kvm, slot)``.  The call is direct:
 * an indirect one would fault on a CPU with IBT, for the ENDBR of a function
 * whose address nobody takes is sealed when its module loads.
 */
#define kvm_call(name) static_call(memslot_ops_##name)

int kvm_symbols_resolve(void);

#endif /* _MEMSLOT_OPS_WRAPPER_KVM_H */
