/* SPDX-License-Identifier: MIT */
/*
 * A host without KVM: ioctl() of the program that this is linked into, so that
 * what the library does to a VM is done to a model.
 */
#ifndef KVM_FAKE_H
#define KVM_FAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "kvm-layout.h"
#include "kvm_model.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * struct kvm_fake - the host and its only VM
 * @model: the slots that calls change; of its address space only
 * @vm_fd: the VM, a file that can be closed
 * @has_type: a device type with the number of the module's is registered
 * @is_module: and it is the module's
 * @create_errno: what KVM_CREATE_DEVICE fails with, or 0
 * @version: of the module
 * @features: KVM_MEMSLOT_FEATURE_*
 * @nr_spaces: address spaces
 * @nr_devices: made
 * @nr_unknown: calls that a VMM would not expect from this library
 * @bitmap_given: whether the last SHRINK asked for the dirty bits
 * @is_inside: a call is being made
 * @on_call: NULL, or called before each call that changes slots
 */
struct kvm_fake {
	struct kvm_model *model;
	int vm_fd;
	bool has_type;
	bool is_module;
	int create_errno;
	uint64_t version;
	uint64_t features;
	uint32_t nr_spaces;
	unsigned int nr_devices;
	unsigned int nr_unknown;
	bool bitmap_given;
	bool is_inside;
	void (*on_call)(void);
};

extern struct kvm_fake kvm_fake;

/* kvm_fake_start - a host that has the module, with one VM, changing @model */
void kvm_fake_start(struct kvm_model *model);

/* kvm_fake_stop - ends that */
void kvm_fake_stop(void);

/*
 * kvm_fake_host - what kvm_layout_host_open() would find
 *
 * @host->dev_fd is to be closed by kvm_layout_host_close().
 */
void kvm_fake_host(struct kvm_layout_host *host);

#ifdef __cplusplus
}
#endif

#endif /* KVM_FAKE_H */
