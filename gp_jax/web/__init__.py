"""The page in the browser: `gp-jax demo`.

clips.py      what was uploaded: bounded, checked, removed after a while
choices.py    what can be chosen, as JSON, and what was chosen, as options
tasks.py      one clip after another is outpainted, whoever watches or does not
guard.py      who may ask at all
server.py     addresses, and what answers there
files/        the page itself: HTML, CSS and JavaScript, nothing from elsewhere
"""
