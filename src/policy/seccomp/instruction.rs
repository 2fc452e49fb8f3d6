//! Classic BPF, as linux/filter.h has it: what our compiler writes.

/// One `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub if_true: u8,
    pub if_false: u8,
    pub k: u32,
}

// The operations that the kernel can also evaluate ahead of time: a call that is always allowed is then not
// even filtered (seccomp_is_const_allow in kernel/seccomp.c).
pub const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
pub const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
pub const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
pub const JUMP_EQ: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
pub const JUMP_GT: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
pub const JUMP_GE: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
pub const RETURN: u16 = 0x06; // BPF_RET | BPF_K

// Offsets in struct seccomp_data (linux/seccomp.h), for LOAD.
pub const NUMBER: u32 = 0;
pub const ARCH: u32 = 4;
/// Six of 8 bytes each.
pub const ARGUMENTS: u32 = 16;

impl Instruction {
    /// As the kernel reads it from memory.
    #[must_use]
    pub fn to_word(self) -> u64 {
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&self.code.to_ne_bytes());
        bytes[2] = self.if_true;
        bytes[3] = self.if_false;
        bytes[4..].copy_from_slice(&self.k.to_ne_bytes());
        u64::from_ne_bytes(bytes)
    }

    #[must_use]
    pub fn from_word(word: u64) -> Self {
        let [a, b, if_true, if_false, k @ ..] = word.to_ne_bytes();
        Self {
            code: u16::from_ne_bytes([a, b]),
            if_true,
            if_false,
            k: u32::from_ne_bytes(k),
        }
    }

    /// How far a comparison jumps.
    #[must_use]
    pub fn jump(self, taken: bool) -> usize {
        usize::from(if taken { self.if_true } else { self.if_false })
    }
}
