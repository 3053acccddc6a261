"""Google's SDK made ready to be asked often: what is alike for all requests is given to it, and looked up, once.

It knows no question and reads no reply; what is asked, and what a reply means, is in `gemini`.
"""

import ssl
import threading
from collections.abc import Callable
from typing import Any

from pydantic import SecretStr

from wizloop.backends.teachers.reach import Reach

Alike = Callable[[int], dict[str, Any]]
"""What is sent alike for all questions whose answers may have so many tokens."""


class Clients:
    """The SDK's clients over one HTTP client, each made once.

    A client adds to its requests what is sent alike for all of them. Given with each of them, the SDK would check, copy
    and convert it anew, which took half of a call's processor time.
    """

    def __init__(self, http: Any, reach: Reach, address: str, alike: Alike) -> None:
        from google.genai import errors, types

        class Text(types.Part):
            """A text, of which the SDK asks for each field that a part can have whether it is `in` it: pydantic goes
            through all of them to say that it is not, and the SDK looks for an attribute then.
            """

            def __contains__(self, name: str) -> bool:
                return False

        self._http, self._reach, self._address, self._alike = http, reach, address, alike
        self._types, self._text = types, Text
        self._made, self._making = dict[int | None, Any](), threading.Lock()
        self.faults: tuple[type[Exception], ...] = (errors.APIError,)
        """What the SDK raises when a request breaks."""
        # Now, and not in the time of the first request.
        for room in (None, reach.max_tokens):
            self._client(room)

    @property
    def plain(self) -> Any:
        """For everything but questions."""
        return self._client(None)

    def ask(self, model: str, message: str, room: int) -> object:
        """Ask for the content that answers a message, with so many tokens at most."""
        asked = self._types.Content(parts=[self._text(text=message)], role="user")
        found: object = self._client(room).models.generate_content(model=model, contents=asked)
        return found

    def _client(self, room: int | None) -> Any:
        with self._making:
            if room not in self._made:
                self._made[room] = self._make(room)
            return self._made[room]

    def _make(self, room: int | None) -> Any:
        from google import genai

        # The time is told to the provider too, so that it does not work, and bill, for a caller that is gone.
        seconds = self._reach.long_s if room is None else self._reach.deadline_s
        # For connections of its own, which are never made, the SDK would read the roots of trust three times: 0.15 s.
        nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        options = self._types.HttpOptions(
            base_url=self._address,
            httpx_client=self._http,
            async_client_args={"verify": nobody, "ssl": nobody},
            timeout=int(seconds * 1000),
            extra_body=None if room is None else self._alike(room),
        )
        secret = (self._reach.secret or SecretStr("")).get_secret_value()
        # Said, or the environment could send the questions to another service of Google's.
        return genai.Client(api_key=secret, enterprise=False, http_options=options)
