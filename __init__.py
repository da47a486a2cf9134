"""ComfyUI extension: blind face restoration with an image quality prior."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Called by ComfyUI. Nodes are imported here, so that this package can be imported without ComfyUI."""
    from .nodes import IQPFaceRestoration

    return IQPFaceRestoration()
