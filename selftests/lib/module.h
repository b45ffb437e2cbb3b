/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Modules of the kernel's, which come and go.
 */
#ifndef SELFTESTS_MODULE_H
#define SELFTESTS_MODULE_H

#include <stddef.h>

#define MODULE_OPS	"kvm_memslot_ops"

/* As in the kernel's linux/module.h, which its tools/ replace. */
#define MODULE_INIT_IGNORE_MODVERSIONS	1
#define MODULE_INIT_IGNORE_VERMAGIC	2

/* Where the host's modules lie, kvm_amd as kvm-amd.ko or kvm_amd.ko. */
void module_find(const char *name, char *path, size_t size);

/* For module_load_fd(). */
int module_open(const char *path);

/* All return 0 or an errno. The last does not wait until the module is no longer in use. */
int module_load_fd(int fd, const char *params, int flags);
int module_load(const char *path, const char *params, int flags);
int module_load_of_host(const char *name, const char *params);
int module_unload(const char *name);

#endif
