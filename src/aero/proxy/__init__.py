"""An OpenAI-compatible endpoint on the user's own machine: programs speak to it, and it speaks the private protocol.

The text exists here alone; the server behind sees lengths. Needs the extra `proxy`, and no torch.

    requests.py  what a program asks for, checked      batcher.py  one private session for all of them
    guard.py     who may ask                           answers.py  what a program gets back
    app.py       the routes                            page/       a chat in the browser
    metrics.py   counters for Prometheus
"""
