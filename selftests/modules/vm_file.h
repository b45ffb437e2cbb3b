/* SPDX-License-Identifier: GPL-2.0 */
/*
 * For test modules: whether a file is a VM. KVM's own file_is_kvm() is for KVM's modules only
 * on some kernels.
 */
#ifndef SELFTESTS_VM_FILE_H
#define SELFTESTS_VM_FILE_H

#include <linux/dcache.h>
#include <linux/fs.h>
#include <linux/string.h>

static inline bool file_is_vm(const struct file *file)
{
	return !strcmp(file->f_path.dentry->d_name.name, "kvm-vm");
}

#endif
