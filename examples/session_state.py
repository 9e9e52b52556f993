"""What a tool keeps for its session: `uvicorn --app-dir examples session_state:app`."""

from typing import Any

from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel

from mcp_persist_sa import VersionConflict, persist, session_id, session_state

mcp = MCPServer("shop")


class Cart(BaseModel):
    """What a customer has chosen."""

    items: list[str] = []
    is_paid: bool = False


@mcp.tool()
async def add(item: str) -> list[str]:
    """Put something into the cart."""

    def with_item(cart: Any) -> Any:
        return {**cart, "items": [*cart["items"], item]}

    # Two calls at the same time, on whatever nodes, both count.
    cart = await session_state().update("cart", with_item, default=Cart().model_dump())
    return cart["items"]


@mcp.tool()
async def show() -> Cart:
    """What is in the cart."""
    return await session_state().get("cart", as_type=Cart) or Cart()


@mcp.tool()
async def pay() -> str:
    """Pay for what is in the cart, once."""
    state = session_state()
    entry = await state.entry("cart")
    cart = Cart() if entry is None else Cart.model_validate(entry.value)
    if cart.is_paid:
        return "It is paid already."
    try:
        await state.compare_and_set(
            "cart", cart.model_copy(update={"is_paid": True}), version=0 if entry is None else entry.version
        )
    except VersionConflict:
        return "The cart has just changed. Look at it again."
    return f"Paid for {len(cart.items)} in session {session_id()}."


app = persist(mcp, "sqlite:///shop.db")
