"""The machine: everybody at once."""

from tests.stateful.claiming import Claiming
from tests.stateful.following import Following
from tests.stateful.keeping import Keeping
from tests.stateful.reading import Reading
from tests.stateful.recording import Recording
from tests.stateful.refusing import Refusing
from tests.stateful.retaining import Retaining
from tests.stateful.writing import Writing


class StoreMachine(Writing, Claiming, Reading, Following, Recording, Keeping, Retaining, Refusing):
    """Sessions, streams, state and retention, on one or two nodes, in one or two namespaces."""
