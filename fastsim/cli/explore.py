"""The command `fastsim explore`."""

import click

from fastsim.cli import options


@click.command()
@options.subject
@options.rate
@options.users
@options.input_len
@options.output_len
@click.option("--requests", type=int, help="Requests that each answer simulates.  [default: 5,000]")
@options.too_long
@options.slos
@options.overrides
@options.priced
@options.policies
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of this machine.  [default: a free one]")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the page in a browser.")
def explore(
    deployment: str | None,
    workload: str | None,
    named: str | None,
    rate: float | None,
    users: int | None,
    input_len: int | None,
    output_len: int | None,
    requests: int | None,
    too_long: str,
    slos: tuple[str, ...],
    overrides: tuple[str, ...],
    prices: str | None,
    price: str | None,
    policies: bool,
    port: int,
    browser: bool,
) -> None:
    """Open a page that answers "what if" while DEPLOYMENT, WORKLOAD and the load on it are changed.

    DEPLOYMENT may also be a link that the page copied. The page is served to this machine alone, until Ctrl-C.
    """
    from fastsim.cli import interrupt
    from fastsim.cli.policies import check_deployment
    from fastsim.cli.requests import changes, subject
    from fastsim.explore.opening import first_question, guard
    from fastsim.explore.server import Server

    about = subject((deployment, workload), named)
    question = first_question(
        about.deployment,
        about.workload,
        changes(overrides, prices=prices, price=price),
        rate=rate,
        users=users,
        input_len=input_len,
        output_len=output_len,
        num_requests=requests,
        too_long=too_long if too_long != "refuse" else None,
        objectives=slos,
    )
    check_deployment(question.deployment, about.deployment, overrides, policies)
    server = Server(question, guard(question), port)
    interrupt.keeps("the page is closed")
    click.echo(f"Open {server.address}\nCtrl-C ends it.")
    if browser:
        click.launch(server.address)
    server.run()
