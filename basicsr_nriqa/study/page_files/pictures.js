// The slider over two pictures of a scene; its pictures are those of the crops.

for (const scene of document.querySelectorAll(".scene")) {
  const stage = scene.querySelector(".stage");
  const range = scene.querySelector("input[type=range]");
  const selects = [...scene.querySelectorAll("select[data-side]")];
  const sources = new Map([...scene.querySelectorAll(".crops img")].map((image) => [image.dataset.label, image.src]));

  const split = () => {
    stage.style.setProperty("--split", `${range.value}%`);
    range.setAttribute("aria-valuetext", `${range.value} % ${selects[0].value}, ${100 - range.value} % ${selects[1].value}`);
  };
  const choose = () => {
    for (const { dataset: { side }, value } of selects) {
      const picture = stage.querySelector(`[data-picture=${side}]`);
      picture.src = sources.get(value);
      picture.alt = `${value}, ${side}`;
      stage.querySelector(`[data-name=${side}]`).textContent = value;
    }
    split();
  };
  const follow = (event) => {
    const box = stage.getBoundingClientRect();
    range.value = (100 * (event.clientX - box.left)) / box.width;
    split();
  };

  for (const select of selects) select.addEventListener("change", choose);
  range.addEventListener("input", split);
  stage.addEventListener("pointerdown", (event) => {
    stage.setPointerCapture(event.pointerId);
    follow(event);
  });
  stage.addEventListener("pointermove", (event) => {
    if (event.buttons) follow(event);
  });
  choose();
}
