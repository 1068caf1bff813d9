from typing import Any, Final

ffi: Any

class _Lib:
    def rl_put_file(
        self,
        dfd: int,
        name: bytes,
        mode: int,
        uid: int,
        gid: int,
        sec: int,
        nsec: int,
        data: Any,
        size: int,
        step: Any,
        /,
    ) -> int: ...
    def rl_write_behind(self, fd: int, offset: int, length: int, /) -> None: ...

lib: Final[_Lib]
