"""What other applications speak: the APIs of OpenAI, Ollama and PhotoPrism Vision, one file each.

They import ``server.core`` only; ``server.app`` mounts them.
"""
