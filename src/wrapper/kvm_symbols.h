/* SPDX-License-Identifier: GPL-2.0 */
/*
 * All that this module needs of KVM, and of the kernel, beyond what they export to everyone, in
 * all versions; nothing is optional.
 * Included with KVM_SYMBOL() and KERNEL_SYMBOL() defined to what is to be done with each.
 */
KVM_SYMBOL(kvm_register_device_ops);
KVM_SYMBOL(kvm_unregister_device_ops);
KVM_SYMBOL(kvm_arch_prepare_memory_region);
KVM_SYMBOL(kvm_arch_commit_memory_region);
KVM_SYMBOL(kvm_arch_free_memslot);
KVM_SYMBOL(kvm_arch_memslots_updated);
KVM_SYMBOL(kvm_arch_flush_shadow_memslot);
KVM_SYMBOL(kvm_arch_guest_memory_reclaimed);
KVM_SYMBOL(kvm_unmap_gfn_range);
KVM_SYMBOL(kvm_cpu_dirty_log_size);
KVM_SYMBOL(kvm_flush_remote_tlbs);
KVM_SYMBOL(kvm_make_all_cpus_request);

KERNEL_SYMBOL(find_vm_area);
