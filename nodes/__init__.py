"""The graph blocks. The only floor that knows ComfyUI."""

from comfy_api.latest import ComfyExtension, io


class IQPFaceRestoration(ComfyExtension):
    """The extension as ComfyUI sees it."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return []
