"""What other applications speak: the APIs of OpenAI, Ollama and PhotoPrism Vision."""
