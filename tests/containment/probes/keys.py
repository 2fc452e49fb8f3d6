KEYCTL, REQUEST_KEY = (250, 249) if os.uname().machine == "x86_64" else (219, 218)
READ, SEARCH, SESSION = 11, 10, -3
NO_KEY = (errno.ENOKEY, errno.EACCES)


@attack(*NO_KEY)
def finds_a_key_in_the_session():
    return "key %d" % syscall(KEYCTL, SEARCH, SESSION, b"user", PLANTED["key"].encode(), 0)


@attack(*NO_KEY)
def asks_for_a_key():
    return "key %d" % syscall(REQUEST_KEY, b"user", PLANTED["key"].encode(), 0, 0)


@attack(*NO_KEY)
def reads_the_session():
    # The numbers of the keys in it.
    held = ctypes.create_string_buffer(64)
    return syscall(KEYCTL, READ, SESSION, held, len(held)) > 0 and "it has keys"
