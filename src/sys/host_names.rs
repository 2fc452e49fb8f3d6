//! How names of hosts are found by a program that has the C library in it.

/// Has them found in hosts(5) and by DNS alone, which the C library does by itself. Whatever else nsswitch.conf(5) names is a
/// library, which brings a second C library into the process: such as libnss_myhostname crashes it.
///
/// Before the first name is looked up; the memory that it takes is never given back.
pub fn find_hosts_without_libraries() {
    #[cfg(static_libc)]
    {
        unsafe extern "C" {
            /// nss.h
            fn __nss_configure_lookup(
                database: *const libc::c_char,
                services: *const libc::c_char,
            ) -> libc::c_int;
        }
        // SAFETY: both texts live through the call.
        let refused = unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
        assert_eq!(refused, 0, "the C library knows the database of hosts");
    }
}
