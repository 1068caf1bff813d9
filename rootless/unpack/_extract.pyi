from typing import Any, Final

ffi: Any

class _Lib:
    def rl_put_files(self, files: Any, count: int, done: Any, step: Any, /) -> int: ...
    def rl_write_behind(self, fd: int, offset: int, length: int, /) -> None: ...

lib: Final[_Lib]
