/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Modules of the kernel's, which come and go.
 */
#ifndef SELFTESTS_MODULE_H
#define SELFTESTS_MODULE_H

#define MODULE_OPS	"kvm_memslot_ops"

/* As in the kernel's linux/module.h, which its tools/ replace. */
#define MODULE_INIT_IGNORE_MODVERSIONS	1
#define MODULE_INIT_IGNORE_VERMAGIC	2

/* Both return 0 or an errno. The latter does not wait until the module is no longer in use. */
int module_load(const char *path, const char *params, int flags);
int module_unload(const char *name);

#endif
